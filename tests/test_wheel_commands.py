"""Every command does its main job from the wheel alone, outside the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_wheel import installed  # noqa: F401  # a fixture

from vitpose_jax.cli import COMMANDS

TINY = (
    "steps=1 eval_every=1 checkpoint_every=1 batch_size=4 model.backbone.width=32 "
    "model.backbone.num_heads=1 model.backbone.depth=1 model.decoder.kind=simple "
    "eval.flip_test=false"
)
JOBS = f"""
models
train quickstart {TINY} --workdir run
train --resume run steps=2
eval run
export run --out weights
convert weights --out transformers
convert transformers --out again
check again
prepare synthetic-solo --out records --splits val --input-size 128x96
check records
train forecast_3dpw:synthetic steps=1 eval_every=1 checkpoint_every=1 batch_size=4 --workdir motion
predict pictures --weights again --boxes pictures/people.json --draw --out found
forecast walk.json --weights motion --fps 30 --out forecast
"""
ELSEWHERE = {"quickstart", "prepare-3dpw", "serve"}
"""Commands that need minutes, a licence or a server; tests of their own try them."""

SCRIPT = """
import json, shlex, sys
from pathlib import Path
import vitpose_jax
from vitpose_jax.cli import main
from vitpose_jax.data.synthetic import dataset
from vitpose_jax.data.synthetic.samples import write_samples

dataset.NUM_SCENES["val"] = 8
write_samples(Path("pictures"), 2)
still = [x for k in range(17) for x in (100 + 9 * k, 200 + 7 * (k % 5), 1)]
frames = [dict(file_name="walk.mp4", frame=i, image_id=i, category_id=1, track_id=1, score=1,
               keypoints=still, bbox=[90, 190, 160, 60]) for i in range(20)]
Path("walk.json").write_text(json.dumps(frames))
statuses = {}
for line in sys.stdin.read().splitlines():
    statuses[line] = main(shlex.split(line))
print(json.dumps(["statuses", vitpose_jax.__file__, statuses]))
"""


def test_every_command_has_a_job() -> None:
    assert {line.split()[0] for line in JOBS.split("\n") if line} | ELSEWHERE >= COMMANDS.keys()


@pytest.mark.slow
def test_every_command_does_its_job(installed: Path, tmp_path: Path) -> None:  # noqa: F811
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=JOBS.strip(),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    _, home, statuses = json.loads(done.stdout.splitlines()[-1])
    assert Path(home).is_relative_to(installed)
    assert set(statuses.values()) == {0}, (statuses, done.stderr[-3000:])
    for file in (
        *("run/curves.png", "run/evaluation.json", "weights/model.safetensors"),
        *("transformers/config.json", "again/model.safetensors", "found/keypoints.json"),
        "forecast/forecast.json",
    ):
        assert (tmp_path / file).exists(), file
