from dataclasses import replace

import cv2
import numpy as np
import pytest

from vitpose_jax.data.augmentation import (
    Augmentation,
    Placements,
    draw_numbers,
    draw_placements,
    place_keypoints,
    unaugmented,
)
from vitpose_jax.data.people import People
from vitpose_jax.keypoints.crops import PIXEL_STD, box_to_center_scale
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.keypoints.warping import warp_crop

COCO = SKELETONS["coco"]
SIZE = (256, 192)
CV5 = int(cv2.__version__.split(".")[0]) >= 5  # older ones interpolate in steps of 1/32 pixel


@pytest.mark.parametrize("prefix", ["", "syn_"])
def test_flip_and_affine_are_the_originals(request, golden, prefix):
    if not prefix:  # of photographs
        shared = request.getfixturevalue("shared")
        golden = shared / "golden"
    truth = np.load(golden / "affine.npz")
    flips = truth["flip"] if prefix == "" else None
    for i in range(len(truth[f"{prefix}center"])):
        if prefix:
            image = truth["syn_image"]
            flip = bool(np.any(truth["syn_center"][i] != truth["syn_center_in"][i]))
        else:
            name = truth["image_file"][i]
            image = cv2.imread(str(next((shared / "data/coco-mini").rglob(str(name)))))[..., ::-1]
            flip = bool(flips[i])
        placements = Placements(
            truth[f"{prefix}center"][i : i + 1],
            truth[f"{prefix}scale"][i : i + 1],
            truth[f"{prefix}rotation"][i : i + 1],
            np.array([flip]),
        )
        people = replace(
            People.empty(1, 17),
            keypoints=truth[f"{prefix}joints_in"][i : i + 1, :, :2],
            visible=truth[f"{prefix}joints_visible_in"][i : i + 1, :, 0],
            image_wh=np.array([image.shape[1::-1]]),
        )
        geometry = place_keypoints(placements, people, SIZE, COCO)
        np.testing.assert_allclose(
            geometry.crop_xy[0], truth[f"{prefix}joints_out"][i, :, :2], atol=2e-3
        )
        np.testing.assert_array_equal(
            geometry.visible[0], truth[f"{prefix}joints_visible"][i, :, 0]
        )
        crop = np.empty((*SIZE, 3), np.uint8)
        warp_crop(image, geometry.matrix[0], crop)
        off = np.abs(crop.astype(int) - truth[f"{prefix}crop"][i])
        assert off.max() <= (1 if CV5 else 8)


def _people(count: int) -> People:
    rng = np.random.default_rng(1)
    return replace(
        People.empty(count, 17),
        box=np.tile(np.float32([100, 80, 120, 200]), (count, 1)),
        keypoints=rng.uniform((100, 80), (220, 280), (count, 17, 2)).astype(np.float32),
        visible=np.full((count, 17), 2, np.float32),
        image_wh=np.full((count, 2), (640, 480), np.int32),
    )


def _place(augmentation: Augmentation, count: int = 20_000) -> Placements:
    numbers = draw_numbers(np.random.default_rng(2), count)
    return draw_placements(augmentation, numbers, _people(count), SIZE, COCO)


def test_placements_have_the_originals_distribution():
    placements = _place(Augmentation(half_body_probability=0))
    center, scale = box_to_center_scale(_people(1).box, SIZE)
    factor = placements.scale[:, 0] / scale[0, 0]
    assert factor.min() == pytest.approx(0.5)
    assert factor.max() == pytest.approx(1.5)
    # clip(1 + 0.5 n, 0.5, 1.5): beyond one standard deviation on either side
    assert np.mean(np.isclose(factor, 0.5)) == pytest.approx(0.1587, abs=0.01)
    assert np.mean(np.isclose(factor, 1.5)) == pytest.approx(0.1587, abs=0.01)
    assert np.mean(placements.rotation != 0) == pytest.approx(0.6, abs=0.01)
    assert np.abs(placements.rotation).max() == pytest.approx(80)
    assert np.std(placements.rotation[placements.rotation != 0]) == pytest.approx(38.5, abs=1)
    assert np.mean(placements.flip) == pytest.approx(0.5, abs=0.01)
    x = np.where(placements.flip, 639 - placements.center[:, 0], placements.center[:, 0])
    shift = np.stack([x, placements.center[:, 1]], -1) - center
    moved = np.any(np.abs(shift) > 1e-3, axis=1)
    assert moved.mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(np.abs(shift).max(axis=0), (24, 40), rtol=0.01)


def test_half_body_frames_the_chosen_half():
    people = _people(2000)
    keypoints = people.keypoints
    numbers = draw_numbers(np.random.default_rng(3), 2000)
    only = Augmentation(0, 0.4, 0, 1.0, 8, 0.0, 40, 0.0)
    placements = draw_placements(only, numbers, people, SIZE, COCO)
    upper = keypoints[:, :11].mean(axis=1)
    lower = keypoints[:, 11:].mean(axis=1)
    is_upper = np.linalg.norm(placements.center - upper, axis=1) < 1e-2
    is_lower = np.linalg.norm(placements.center - lower, axis=1) < 1e-2
    assert np.all(is_upper | is_lower)
    assert is_upper.mean() == pytest.approx(0.6915, abs=0.03)  # P(n < 0.5)
    i = int(np.flatnonzero(is_upper)[0])
    extent = np.ptp(keypoints[i, :11], axis=0)
    size = np.maximum(extent, extent[::-1] * (0.75, 4 / 3)) * 1.5
    np.testing.assert_allclose(placements.scale[i] * PIXEL_STD, size, rtol=1e-5)
    # With eight labelled keypoints, one more would be needed.
    people.visible[:, 8:] = 0
    placements = draw_placements(only, numbers, people, SIZE, COCO)
    expected = unaugmented(people.box, SIZE)
    np.testing.assert_array_equal(placements.center, expected.center)
    np.testing.assert_array_equal(placements.scale, expected.scale)


def test_inputs_are_left_alone():
    people = _people(50)
    people.visible[:, ::3] = 0
    before = {name: column.copy() for name, column in people.columns().items()}
    numbers = draw_numbers(np.random.default_rng(3), 50)
    placements = draw_placements(Augmentation(), numbers, people, SIZE, COCO)
    place_keypoints(placements, people, SIZE, COCO)
    for name, column in people.columns().items():
        np.testing.assert_array_equal(column, before[name])
