"""Skeletons: consistent in themselves, and with annotations made elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton, flip_pairs_by_name, plain_name

KEYPOINTS = {"coco": 17, "aic": 14, "mpii": 16, "ap10k": 17, "apt36k": 17, "wholebody": 133}


def test_the_experts_order() -> None:
    assert list(SKELETONS) == list(KEYPOINTS)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_skeleton_is_consistent(skeleton: Skeleton) -> None:
    count = skeleton.num_keypoints
    assert count == KEYPOINTS[skeleton.name] == len(set(skeleton.keypoint_names))
    assert len(skeleton.sigmas) == count
    assert all(0 < sigma < 0.2 for sigma in skeleton.sigmas)
    flip = skeleton.flip_index
    assert sorted(flip) == list(range(count))
    np.testing.assert_array_equal(flip[flip], np.arange(count))
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert len(limbs) == len(skeleton.limbs)
    assert all(len(limb) == 2 and max(limb) < count for limb in limbs)
    assert {frozenset(int(flip[i]) for i in limb) for limb in limbs} == limbs  # mirror-symmetric
    assert set(skeleton.upper_body) < set(range(count))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_flip_pairs_swap_sides_and_sigmas_agree(skeleton: Skeleton) -> None:
    opposite = {"left": "right", "right": "left", "centre": "centre"}
    for keypoint, mirrored in enumerate(skeleton.flip_index):
        assert skeleton.side(mirrored) == opposite[skeleton.side(keypoint)]


def test_flip_index_cannot_be_changed() -> None:
    with pytest.raises(ValueError):
        SKELETONS["coco"].flip_index[0] = 3


def test_coco_agrees_with_the_annotation_file(shared: Path) -> None:
    path = shared / "data/coco-mini/annotations/person_keypoints_val2017.json"
    category = json.loads(path.read_text())["categories"][0]
    coco = SKELETONS["coco"]
    assert list(coco.keypoint_names) == category["keypoints"]
    assert {frozenset((a - 1, b - 1)) for a, b in category["skeleton"]} == {
        frozenset(limb) for limb in coco.limbs
    }


def test_coco_agrees_with_pycocotools_and_golden(golden: Path) -> None:
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(SKELETONS["coco"].sigmas, Params("keypoints").kpt_oks_sigmas)
    pairs = np.load(golden / "vitpose_tiny_classic.npz")["flip_pairs"]
    assert SKELETONS["coco"].flip_pairs == tuple(map(tuple, pairs.tolist()))


def test_wholebody_extends_coco() -> None:
    coco, whole = SKELETONS["coco"], SKELETONS["wholebody"]
    assert whole.keypoint_names[:17] == coco.keypoint_names
    assert whole.sigmas[:17] == coco.sigmas
    names = whole.keypoint_names
    assert names[23] == "face-0"
    assert names[91] == "left_hand_root"
    assert names[112] == "right_hand_root"
    assert names[132] == "right_pinky_finger4"
    assert names[whole.flip_index[23 + 36]] == "face-45"  # outer corners of the eyes
    assert len(whole.limbs) == 65  # as in mmpose


def test_spellings_of_one_name_agree() -> None:
    assert {plain_name(n) for n in ("L_Eye", "left_eye", "Left-Eye", "left eye")} == {"left_eye"}


@pytest.mark.parametrize(
    ("left", "right"),
    [("left_hip", "right_hip"), ("Left Hip", "Right Hip"), ("L_Hip", "R_Hip"), ("hip_l", "hip_r")],
)
def test_left_and_right_are_found_by_name(left: str, right: str) -> None:
    assert flip_pairs_by_name(["nose", right, left]) == ((1, 2),)
