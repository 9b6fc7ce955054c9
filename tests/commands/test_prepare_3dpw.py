"""`vitpose prepare-3dpw`, from the command line to the files."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from vitpose_jax.cli import main
from vitpose_jax.data.motion.threedpw_keypoints import keypoint_file, keypoint_tracks
from vitpose_jax.inference.threedpw import assign_boxes


@pytest.fixture
def small_3dpw(tmp_path: Path) -> Path:
    """A sequence of two actors with images; the second is out of sight at first."""
    frames = 5
    rng = np.random.default_rng(0)
    poses = np.zeros((2, frames, 3, 18), np.float32)
    for actor, left in enumerate((30, 150)):
        poses[actor, :, 0] = rng.uniform(left, left + 60, (frames, 18))
        poses[actor, :, 1] = rng.uniform(40, 180, (frames, 18))
        poses[actor, :, 2] = 0.8
    poses[1, :2] = 0
    far = np.full((frames, 72), np.nan, np.float32)
    content = {
        "sequence": "walk_00",
        "poses2d": list(poses),
        "jointPositions": [far, far],
        "campose_valid": [np.ones(frames, np.float32)] * 2,
        "cam_poses": np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1)),
        "cam_intrinsics": np.array([[300, 0, 120], [0, 300, 120], [0, 0, 1]], np.float32),
        "img_frame_ids": np.arange(3, 3 + frames),
    }
    place = tmp_path / "3dpw" / "sequenceFiles" / "train"
    place.mkdir(parents=True)
    (place / "walk_00.pkl").write_bytes(pickle.dumps(content, 2))
    images = tmp_path / "3dpw" / "imageFiles" / "walk_00"
    images.mkdir(parents=True)
    for number in range(3, 3 + frames):
        picture = rng.integers(0, 255, (240, 240, 3), dtype=np.uint8)
        cv2.imwrite(str(images / f"image_{number:05d}.jpg"), picture)
    return tmp_path / "3dpw"


def test_prepare_3dpw(small_3dpw: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    models = ["--weights", str(weights), "--num-heads", "3"]
    command = ["prepare-3dpw", str(small_3dpw), *models, "--splits", "train"]
    assert main(command) == 0
    path = keypoint_file(small_3dpw, "train", "walk_00")
    with np.load(path) as content:
        keypoints, scores = content["keypoints"], content["scores"]
    assert keypoints.shape == (2, 5, 17, 2)
    assert (scores[1, :2] == 0).all()  # out of sight
    assert (scores[0] != 0).any(-1).all()
    tracks = keypoint_tracks(small_3dpw, "train")
    assert [len(track.frame_ids) for track in tracks] == [5, 5]

    before = path.stat().st_mtime_ns  # the second time nothing is done again
    assert main(command) == 0
    assert "1 were done already" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"half")
    assert main(command) == 2
    assert "damaged" in capsys.readouterr().err
    assert main([*command, "--again"]) == 0
    (small_3dpw / "imageFiles" / "walk_00" / "image_00004.jpg").unlink()
    assert main([*command, "--again"]) == 2
    assert "image_00004.jpg: not there (1 of 5" in capsys.readouterr().err


def test_boxes_go_to_the_actors_they_overlap() -> None:
    actors = np.array([[0, 0, 10, 20], [100, 0, 10, 20], [np.nan] * 4])
    found = np.array([[101, 1, 10, 20, 0.9], [500, 0, 10, 20, 0.8], [1, 0, 10, 20, 0.3]])
    assigned = assign_boxes(found, actors)
    np.testing.assert_array_equal(assigned[:2], found[[2, 0], :4])
    assert np.isnan(assigned[2]).all()
    assert np.isnan(assign_boxes(np.zeros((0, 5)), actors)).all()
