"""Boxes in other units are told, with the likely cause."""

import numpy as np
import pytest

from vitpose_jax.inference.box_units import unit_problem

WIDTH, HEIGHT = 640, 427
BOXES = np.array(
    [
        *([100, 80, 120, 250], [400, 100, 150, 300], [20, 30, 60, 120]),
        *([500, 200, 100, 200], [300, 10, 80, 150], [50, 200, 100, 220]),
    ],
    float,
)
CORNERS = np.column_stack([BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]])
SIZE = np.array([WIDTH, HEIGHT] * 2)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (BOXES, None),
        (BOXES[:1], None),
        (BOXES + np.array([-15, -15, 30, 30]), None),  # a little generous
        (CORNERS, "corners (x1, y1, x2, y2)"),
        (np.concatenate([CORNERS] * 3 + [BOXES[:1]]), "corners"),
        (np.column_stack([BOXES[:, :2] + BOXES[:, 2:] / 2, BOXES[:, 2:]]), "centre x, centre y"),
        (BOXES / SIZE, "6 of 6 boxes lie between 0 and 1"),
        (CORNERS / SIZE, "lie between 0 and 1"),
        (np.concatenate([BOXES, BOXES[:1] / SIZE]), "1 of 7 boxes lie between 0 and 1"),
        (np.concatenate([BOXES, BOXES]) / SIZE * 100, "all 12 boxes lie between 0 and 100"),
        (BOXES / SIZE * 1000, "4 of 6 boxes lie mostly outside"),
        (BOXES * 4, "mostly outside their picture: from one of another size?"),
        (np.array([[np.nan, 1, 2, 3], [1, 2, -3, 4]]), None),
        (np.array([[9000.0, 0, 9, 9]]), None),  # told by itself
    ],
)
def test_forms(boxes: np.ndarray, words: str | None) -> None:
    problem = unit_problem(boxes, np.tile([WIDTH, HEIGHT], (len(boxes), 1)))
    assert problem is None if words is None else problem is not None and words in problem


def test_real_boxes_have_no_problem(detections: list[dict]) -> None:
    boxes = np.array([entry["bbox"] for entry in detections])
    assert unit_problem(boxes, np.tile([640, 640], (len(boxes), 1))) is None
