"""The page on one's own data: its commands run, and it explains every finding."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import tiny_config
import yaml

from vitpose_jax.cli import main
from vitpose_jax.data import findings
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.tasks import run
from vitpose_jax.tasks.configuration import load_configuration

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/your_own_data.md"
KINDS = [kind for kind in vars(findings).values() if isinstance(kind, findings.Kind)]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.S)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.words[:40])
def test_every_finding_is_explained(kind):
    rows = [line.split(" | ")[0].strip("| ") for line in PAGE.read_text().splitlines()]
    names = {row.removeprefix("**!** "): row for row in rows if row}
    found = [name for name in names if kind.words.startswith(name)]
    assert found, f"docs/your_own_data.md does not explain: {kind.words}"
    assert names[max(found, key=len)].startswith("**!**") == kind.costs


def train_small(words):
    """Run a training command on the smallest model; its configuration is only read."""
    options = dict(word.removeprefix("--").split("=", 1) for word in words)
    name, argument = options["config"].split(":")
    config = load_configuration(f"{REPOSITORY / 'configs' / name}.py:{argument}")
    for name in options:
        if name.startswith("config."):
            assert name.removeprefix("config.") in config
    small = tiny_config.get_config(config.data)
    small.steps = small.eval_every = small.checkpoint_every = 1
    small.batch_size = 4
    run.train(small, Path(options["workdir"]))


def test_the_commands_lead_from_an_export_to_predictions(coco_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.move(coco_folder, "mydata")
    shutil.copytree("mydata/val2017", "photos")
    for line in "".join(blocks("bash")).splitlines():
        words = shlex.split(line)
        if words[:3] == ["python", "-m", "vitpose_jax.main"]:
            train_small(words[3:])
        else:
            assert words.pop(0) == "vitpose"
            assert main(words) == 0, line
    assert (tmp_path / "mydata.html").stat().st_size > 10_000
    assert (tmp_path / "found/keypoints.json").exists()
    assert len(open_pose_dataset("mydata-records", "train")) == 6


def test_the_yaml_file_is_read(coco_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (content,) = map(yaml.safe_load, blocks("yaml"))
    Path("exports").mkdir()
    source = coco_folder / "annotations/person_keypoints_train2017.json"
    for split in content.values():
        shutil.copy(source, split["annotations"])
    shutil.copytree(coco_folder / "train2017", "pictures")
    Path("mydata.yaml").write_text(blocks("yaml")[0])
    assert len(open_pose_dataset("mydata.yaml", "val")) == 6
