"""The tensorflow-datasets builder gives back the tracks, without TensorFlow."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import numpy as np
from vitpose_jax.data.motion.sources import open_tracks
from vitpose_jax.data.motion.threedpw_tfds import ThreedpwMotion, track_of
source, out = sys.argv[1:]
options = {"data_dir": out, "file_format": "array_record"}
builder = ThreedpwMotion(source=source, config="detections", **options)
builder.download_and_prepare()
found = {t.name: t for t in map(track_of, builder.as_data_source("validation"))}
expected = open_tracks(source, "validation")
assert len(found) == len(expected) == 13, len(found)
for track in expected:
    np.testing.assert_array_equal(found[track.name].positions, track.positions)
    np.testing.assert_array_equal(found[track.name].visible, track.visible)
    np.testing.assert_array_equal(found[track.name].frame_ids, track.frame_ids)
    assert found[track.name].fps == track.fps
assert "tensorflow" not in sys.modules
print("same")
"""


def test_builder_gives_the_tracks_back(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "cmu-3dpw"
    out = subprocess.run(
        [sys.executable, "-c", CODE, str(source), str(tmp_path)], capture_output=True, text=True
    )
    assert out.stdout.strip().endswith("same"), out.stderr[-2000:]
