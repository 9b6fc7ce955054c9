"""LSPET's release in COCO's layout."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from convert import lspet_to_coco
from vitpose_jax.data.coco.annotations import read_annotations
from vitpose_jax.data.opening import open_pose_dataset


def _release(folder: Path, joints: np.ndarray, size: tuple[int, int] = (180, 120)) -> Path:
    (folder / "images").mkdir(parents=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints.transpose(1, 2, 0)})
    for number in range(1, len(joints) + 1):
        image = np.full((size[1], size[0], 3), number % 250, np.uint8)
        cv2.imwrite(str(folder / "images" / f"im{number:05d}.jpg"), image)
    return folder


def _people(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    joints = np.zeros((count, 14, 3))
    joints[..., :2] = rng.uniform(20, 100, (count, 14, 2))
    joints[..., 2] = 1
    return joints


def test_layout_and_conventions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    joints = _people(30)
    joints[0, 3, 2] = 0  # left hip
    joints[4, :6, 2] = 0  # leaves six of COCO's
    out = tmp_path / "out"
    assert lspet_to_coco.main([str(_release(tmp_path / "lspet", joints)), "--out", str(out)]) == 0
    assert "27 people in train, 2 people in val" in capsys.readouterr().out
    train, val = (open_pose_dataset(str(out), split) for split in ("train", "val"))
    assert val.people.annotation_id.tolist() == [7, 27]
    assert 5 not in train.people.annotation_id
    first = train.coco_gt["annotations"][0]
    points = np.array(first["keypoints"]).reshape(17, 3)
    np.testing.assert_allclose(points[16], [*joints[0, 0, :2].round(2), 2])  # right ankle
    np.testing.assert_allclose(points[5], [*joints[0, 9, :2].round(2), 2])  # left shoulder
    np.testing.assert_array_equal(points[11], 0)
    np.testing.assert_array_equal(points[:5], 0)
    assert first["num_keypoints"] == 11


def test_boxes_are_those_of_the_prepared_copy(shared: Path) -> None:
    """The copy lacks neck and head top, so the boxes made from it can only be smaller."""
    folder = shared / "data/lspet-coco"
    content = json.loads((folder / "annotations/person_keypoints_val2017.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    names = lspet_to_coco.COCO.keypoint_names
    same = total = 0
    for annotation in content["annotations"]:
        points = np.array(annotation["keypoints"]).reshape(17, 3)
        joints = np.zeros((14, 3))
        for i, name in enumerate(lspet_to_coco.LSPET_JOINTS[:12]):
            joints[i] = points[names.index(name)]
        mine = lspet_to_coco.annotate(joints, annotation["id"], sizes[annotation["image_id"]])
        assert mine is not None
        assert mine["keypoints"] == annotation["keypoints"]
        mine, copy = (np.array(a["bbox"]) for a in (mine, annotation))
        mine[2:] += mine[:2]
        copy[2:] += copy[:2]
        assert (mine[:2] >= copy[:2] - 0.3).all()
        assert (mine[2:] <= copy[2:] + 0.3).all()
        same += int((np.abs(mine - copy) < 0.06).sum())
        total += 4
        box = annotation["bbox"]
        assert annotation["area"] == pytest.approx(0.53 * box[2] * box[3], rel=1e-3)
        assert annotation["id"] % 20 == 7
    assert same / total > 0.4


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    lspet_to_coco.convert(_release(tmp_path / "lspet", _people(8)), out)
    found = read_annotations(out / "annotations/person_keypoints_train2017.json")
    assert len(found.people) == 7
    assert set(found.report.findings) == set()


@pytest.mark.parametrize("case", ["nothing", "no_image", "wrong_mat", "not_empty"])
def test_incomplete_releases_are_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture, case: str
) -> None:
    release, out = tmp_path / "lspet", tmp_path / "out"
    words = "does not exist"
    if case != "nothing":
        _release(release, _people(3))
    if case == "no_image":
        (release / "images/im00002.jpg").unlink()
        words = "im00002.jpg is missing"
    elif case == "wrong_mat":
        scipy.io.savemat(release / "joints.mat", {"joints": np.zeros((2, 2))})
        words = "not 14 x 3 x images"
    elif case == "not_empty":
        out.mkdir()
        (out / "x").write_text("")
        words = "not empty"
    assert lspet_to_coco.main([str(release), "--out", str(out)]) == 2
    assert words in capsys.readouterr().err
