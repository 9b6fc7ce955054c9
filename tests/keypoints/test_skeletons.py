"""Skeletons: consistent in themselves, and with annotations made elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.keypoints.skeletons import (
    KNOWN,
    SKELETONS,
    Skeleton,
    flip_pairs_by_name,
    known_skeleton,
    plain_names,
    without_partner,
)

KEYPOINTS = {"coco": 17, "aic": 14, "mpii": 16, "ap10k": 17, "apt36k": 17, "wholebody": 133}
KEYPOINTS |= {"crowdpose": 14, "halpe26": 26, "halpe": 136}


def test_the_experts_order() -> None:
    assert list(SKELETONS) == list(KEYPOINTS)[:6]


@pytest.mark.parametrize("skeleton", KNOWN, ids=lambda s: s.name)
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


@pytest.mark.parametrize("skeleton", KNOWN, ids=lambda s: s.name)
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


KNEES = (
    *("left_knee", "leftKnee", "LeftKnee", "LKnee", "L_Knee", "l-knee", "knee.L", "Left Knee"),
    *("knee_left", "KNEE_L", "LEFTKNEE", "kneeLeft", "KneeL", "knee L", "leftknee", "lt knee"),
    *("Bip01 L Knee", "mixamorig:LeftKnee", "左knee", "knee-l", "LEFT KNEE", "  left  knee  "),
)


@pytest.mark.parametrize("knee", KNEES)
def test_left_and_right_are_found_however_they_are_spelled(knee: str) -> None:
    changes = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "lt": "rt", "左": "右"}
    old = next((old for old in changes if old in knee), None)
    other = knee.replace(old, changes[old]) if old else knee.translate({108: "r", 76: "R"})
    names = ["nose", other, knee, "larynx", "root", "rib", "lower_back"]
    assert flip_pairs_by_name(names) == ((1, 2),)
    assert not without_partner(names, [(1, 2)])
    skeleton = Skeleton("x", tuple(names), ((1, 2),), (), (0.05,) * 7, ())
    sides = [skeleton.side(i) for i in range(7)]
    assert sides == ["centre", "right", "left", *["centre"] * 4]


@pytest.mark.parametrize(
    "pair", [("lknee", "rknee"), ("KNEEL", "KNEER"), ("kneeleft", "kneeright")]
)
def test_glued_sides_count_where_the_mirrored_name_is_there(pair: tuple[str, str]) -> None:
    assert flip_pairs_by_name(["nose", *pair]) == ((1, 2),)
    assert flip_pairs_by_name([pair[0], "nose", "rib"]) == ()


def test_names_of_two_sides_have_both_exchanged() -> None:
    corners = [f"{a}_eye_{b}_corner" for a in ("left", "right") for b in ("left", "right")]
    assert flip_pairs_by_name(corners) == ((0, 3), (1, 2))


@pytest.mark.parametrize(
    "name",
    ["larynx", "lower_back", "rib", "root", "L5", "upright", "tail", "Rectum", "leg", "rear"],
)
def test_names_without_a_side(name: str) -> None:
    assert not without_partner([name, "nose"], [])


@pytest.mark.parametrize("name", ["left_knee", "LKnee", "knee.L", "leftknee", "R Foot", "7-r-hip"])
def test_names_whose_partner_is_missing_are_found(name: str) -> None:
    assert without_partner(["nose", name], []) == [name]


def test_the_data_sets_are_known_in_their_own_spellings() -> None:
    animal = [
        name.replace("L_", "left_").replace("R_", "right_")
        for name in SKELETONS["ap10k"].keypoint_names
    ]
    animal = [name.replace("F_Paw", "front_paw").replace("B_Paw", "back_paw") for name in animal]
    found = known_skeleton([name.lower().replace(" ", "_") for name in animal])
    assert found is SKELETONS["ap10k"]
    coco = SKELETONS["coco"].keypoint_names
    for spelled in (map(str.upper, coco), (name.replace("_", "-") for name in coco)):
        assert known_skeleton(list(spelled)) is SKELETONS["coco"]
    crowd = [*coco[5:], "top_head", "neck"]
    assert known_skeleton(crowd).name == "crowdpose"
    assert known_skeleton(coco[::-1]) is None


def test_spellings_of_one_name_agree() -> None:
    names = ("L_Eye", "left_eye", "Left-Eye", "left eye")
    assert {plain_names([name])[0] for name in names} == {"left_eye"}
    assert plain_names(["leye", "reye"]) == ["left_eye", "right_eye"]


@pytest.mark.parametrize(
    ("left", "right"),
    [("left_hip", "right_hip"), ("Left Hip", "Right Hip"), ("L_Hip", "R_Hip"), ("hip_l", "hip_r")],
)
def test_left_and_right_are_found_by_name(left: str, right: str) -> None:
    assert flip_pairs_by_name(["nose", right, left]) == ((1, 2),)
