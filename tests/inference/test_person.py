"""A person for users: names, a dict, another library's keypoints."""

import json
from dataclasses import replace

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference.person import to_supervision
from vitpose_jax.keypoints.skeletons import SKELETONS

COCO = SKELETONS["coco"]


def test_names(make_person) -> None:
    person = replace(make_person(10, 20), skeleton=COCO)
    assert person.names == COCO.keypoint_names
    np.testing.assert_array_equal(person["left_wrist"][:2], person.keypoints[9])
    assert person["left_wrist"][2] == person.keypoint_scores[9]
    with pytest.raises(UserError, match="no keypoint 'tail': there are nose"):
        person["tail"]
    assert make_person(10, 20).names[:2] == ("0", "1")


def test_a_dict_is_json_whatever_the_numbers(make_person) -> None:
    person = replace(make_person(10, 20), skeleton=COCO, track=3)
    values = json.loads(json.dumps(person.to_dict(), allow_nan=False))
    assert values["track"] == 3
    assert values["box"] == [10, 20, 60, 150]
    assert list(values["keypoints"]) == list(COCO.keypoint_names)
    assert values["keypoints"]["nose"]["x"] == pytest.approx(float(person.keypoints[0, 0]))
    lost = replace(person, keypoints=np.full((17, 2), np.nan, np.float32))
    assert json.loads(json.dumps(lost.to_dict(), allow_nan=False))["keypoints"]["nose"]["x"] is None


def test_supervision(make_person) -> None:
    """Its annotators draw our people."""
    supervision = pytest.importorskip("supervision")
    people = [make_person(10, 20), make_person(90, 20)]
    points = to_supervision(people)
    np.testing.assert_array_equal(points.xy, np.stack([p.keypoints for p in people]))
    assert len(points) == 2
    picture = np.zeros((200, 200, 3), np.uint8)
    edges = [(a + 1, b + 1) for a, b in COCO.limbs]
    drawn = supervision.EdgeAnnotator(edges=edges).annotate(picture.copy(), points)
    assert drawn.any()
    assert len(to_supervision([])) == 0
