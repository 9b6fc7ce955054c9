"""What became of a joint, and which people and joints make up a group."""

import numpy as np

from experiments.fpn_study.measures import KINDS, distances, error_kinds, groups, hits
from vitpose_jax.data.people import People
from vitpose_jax.keypoints.skeletons import SKELETONS

COCO = SKELETONS["coco"]
JOINT = {name: i for i, name in enumerate(COCO.keypoint_names)}


def two_people() -> People:
    """Side by side on one image, each with a torso of 100 pixels; the second lacks its nose."""
    people = People.empty(2, 17)
    people.image_id[:] = 7
    people.annotation_id[:] = 1, 2
    places = np.random.default_rng(0).permutation(17)
    people.keypoints[0] = np.column_stack([np.zeros(17), 150.0 * places])
    people.keypoints[0, JOINT["right_hip"]] = people.keypoints[0, JOINT["left_shoulder"]] + (100, 0)
    people.keypoints[1] = people.keypoints[0] + (1000, 0)
    people.visible[:] = 2
    people.visible[1, 0] = 0
    people.box[:] = (0, 0, 400, 2600), (1000, 0, 100, 100)
    return people


def test_kinds_of_errors() -> None:
    people = two_people()
    found = people.keypoints + np.array([1.0, 0])
    left, right = JOINT["left_knee"], JOINT["right_knee"]
    found[0, JOINT["nose"]] += (11, 0)
    found[0, left] = people.keypoints[0, right] + (0, 19)
    found[0, right] = people.keypoints[1, JOINT["left_ankle"]]
    found[0, JOINT["left_wrist"]] += (40, 40)
    kinds = error_kinds(found, people, COCO)
    assert kinds[1, 0] == -1
    expected = np.full((2, 17), "exact", object)
    expected[0, [0, left, right, JOINT["left_wrist"]]] = (
        *("imprecise", "swapped side", "other person", "missed"),
    )
    judged = kinds >= 0
    assert np.array(KINDS, object)[kinds[judged]].tolist() == expected[judged].tolist()


def test_hits_and_groups() -> None:
    people = two_people()
    found = people.keypoints + np.array([0, 20.0])
    distance = distances(found, people, COCO.keypoint_names)
    assert np.isnan(distance[1, 0])
    assert np.nanmax(np.abs(distance - 0.2)) < 1e-6
    assert np.nanmean(hits(distance, 0.21)) == 1
    assert np.nanmean(hits(distance, 0.19)) == 0
    masks = groups(people, COCO.keypoint_names)
    assert masks["small joints"].sum(1).tolist() == [9, 9]
    assert masks["smallest third of people"].any(1).tolist() == [False, True]
    assert not (masks["small joints"] & masks["large joints"]).any()
