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


@pytest.mark.parametrize("right", [70, 99])  # inside the picture, and as wide as it
@pytest.mark.parametrize("opacity", [0.25, 0.5, 0.75])
def test_faint_keypoints_are_blended_with_what_is_below(opacity: float, right: int) -> None:
    skeleton = SKELETONS["coco"]
    points = np.full((17, 2), 40.0)
    points[[5, 7]] = [[90 - right, 20], [right, 50]]  # a limb, whose ends are all that is drawn
    shown = np.isin(np.arange(17), [5, 7])
    below = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    solid, faint = below.copy(), below.copy()
    draw_skeleton(solid, points, shown, skeleton)
    draw_skeleton(faint, points, shown * opacity, skeleton)
    mixed = opacity * solid.astype(float) + (1 - opacity) * below
    assert np.abs(faint - mixed).max() <= 0.5 + 1e-9
    assert (solid != below).any()


def test_a_limb_is_as_faint_as_its_fainter_end() -> None:
    skeleton = SKELETONS["coco"]
    points = np.zeros((17, 2))
    points[[5, 7]] = [[10, 30], [90, 30]]
    opacity = np.zeros(17)
    opacity[[5, 7]] = 1.0, 0.25
    mixed, solid = np.zeros((2, 60, 100, 3), np.uint8)
    draw_skeleton(mixed, points, opacity, skeleton)
    draw_skeleton(solid, points, opacity > 0, skeleton)
    np.testing.assert_allclose(mixed[30, 50], 0.25 * solid[30, 50], atol=1)
    np.testing.assert_allclose(mixed[30, 90], 0.25 * solid[30, 90], atol=1)
    np.testing.assert_array_equal(mixed[30, 10], solid[30, 10])


def test_faint_keypoints_outside_the_picture() -> None:
    skeleton = SKELETONS["coco"]
    canvas = np.zeros((60, 100, 3), np.uint8)
    draw_skeleton(canvas, np.full((17, 2), -80.0), np.full(17, 0.5), skeleton)
    assert not canvas.any()
