"""A skeleton by name and from every kind of file that may tell it."""

import json
from pathlib import Path

import pytest

from vitpose_jax.data.coco.skeleton_file import read_skeleton
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import KNOWN, SKELETONS

NAMES = ["snout", "left_fin", "right_fin", "tail"]
CATEGORY = {"id": 7, "name": "fish", "keypoints": NAMES, "skeleton": [[1, 4]]}


def written(content: object, folder: Path) -> Path:
    file = folder / "fish.json"
    file.write_text(json.dumps(content))
    return file


def test_known_names_and_skeletons() -> None:
    for skeleton in KNOWN:
        assert read_skeleton(skeleton.name) is skeleton
        assert read_skeleton(skeleton) is skeleton


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": [], "categories": [{"id": 1, "name": "rock"}, CATEGORY]},
        {"categories": [CATEGORY]},
        CATEGORY,
        NAMES,
        {"name": "fish", "keypoint_names": NAMES, "limbs": [[0, 3]]},
        {"decoder": {}, "skeleton": {"name": "fish", "keypoint_names": NAMES, "limbs": [[0, 3]]}},
    ],
)
def test_files(tmp_path: Path, content: object) -> None:
    skeleton = read_skeleton(written(content, tmp_path))
    assert (skeleton.name, skeleton.keypoint_names) == ("fish", tuple(NAMES))
    assert skeleton.flip_pairs == ((1, 2),)
    assert skeleton.limbs == (() if content == NAMES else ((0, 3),))


def test_a_known_ones_names_give_it_whole(tmp_path: Path) -> None:
    names = list(SKELETONS["coco"].keypoint_names)
    assert read_skeleton(written(names, tmp_path)).limbs == SKELETONS["coco"].limbs
    assert read_skeleton(written({"decoder": {}, "dataset": "aic"}, tmp_path)) is SKELETONS["aic"]


@pytest.mark.parametrize(
    "content",
    [
        3,
        "coco",
        {},
        [],
        [1, 2],
        ["a", "a"],
        {"categories": []},
        {"categories": [3]},
        {"categories": [{"keypoints": 3}]},
        {"categories": [CATEGORY, {"name": "bat", "keypoints": ["a", "b"]}]},
        {"keypoints": ["a", 3]},
        {"decoder": {}, "dataset": "moon"},
        {"keypoint_names": 3},
        {"keypoint_names": NAMES, "sigmas": [1]},
        {"keypoint_names": NAMES, "flip_pairs": [[0, 9]]},
        {"decoder": {}, "dataset": 3},
    ],
    ids=str,
)
def test_files_that_tell_none(tmp_path: Path, content: object) -> None:
    with pytest.raises(UserError, match=r"fish\.json") as caught:
        read_skeleton(written(content, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["moon", "x" * 5000, "a\0b"])
def test_names_nobody_knows(name: str) -> None:
    with pytest.raises(UserError, match=r"none of the known names .coco, .*crowdpose"):
        read_skeleton(name)
