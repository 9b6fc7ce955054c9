"""Drawing a skeleton: every data set's, in the colours of the sides or in one."""

import numpy as np
import pytest

from vitpose_jax.keypoints.drawing import SIDE_COLOURS, draw_skeleton
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton


def drawn(skeleton: Skeleton, **more: object) -> set[tuple[int, ...]]:
    """The colours of a canvas with a skeleton of random points."""
    points = np.random.default_rng(0).uniform(0, 200, (skeleton.num_keypoints, 2))
    canvas = np.zeros((200, 200, 3), np.uint8)
    draw_skeleton(canvas, points, np.ones(skeleton.num_keypoints, bool), skeleton, **more)
    return {tuple(c) for c in canvas.reshape(-1, 3).tolist()}


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_every_skeleton_can_be_drawn(skeleton: Skeleton) -> None:
    assert {SIDE_COLOURS["left"], SIDE_COLOURS["right"]} <= drawn(skeleton)


def test_one_colour_instead_of_the_sides() -> None:
    colours = drawn(SKELETONS["coco"], colour=(9, 200, 30))
    assert (9, 200, 30) in colours
    assert not set(SIDE_COLOURS.values()) & colours
