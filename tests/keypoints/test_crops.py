"""Boxes, affine maps and crops against the original's, and the laws they obey."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitpose_jax.keypoints.crops import (
    box_iou,
    box_to_center_scale,
    clean_box,
    udp_affine,
)
from vitpose_jax.keypoints.normalization import normalize_crops
from vitpose_jax.keypoints.warping import warp_crop

GREY_LEVELS = 1 if int(cv2.__version__.split(".")[0]) >= 5 else 5
coordinates = st.floats(-2000, 2000, width=32)
sizes = st.floats(1, 3000, width=32)


def transform_points(xy: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return (np.asarray(xy) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


@pytest.fixture(scope="module")
def affine(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "affine.npz"))


def test_center_and_scale_are_exact(affine: dict[str, np.ndarray]) -> None:
    center, scale = box_to_center_scale(affine["box_xywh"])
    np.testing.assert_array_equal(center, affine["box_center"])
    np.testing.assert_array_equal(scale, affine["box_scale"])
    assert center.dtype == scale.dtype == np.float32


def test_one_box_as_well_as_many(affine: dict[str, np.ndarray]) -> None:
    center, scale = box_to_center_scale(affine["box_xywh"][3])
    np.testing.assert_array_equal(center, affine["box_center"][3])
    np.testing.assert_array_equal(scale, affine["box_scale"][3])


def test_cleaned_boxes_are_exact(affine: dict[str, np.ndarray]) -> None:
    triples = zip(
        affine["clean_raw_xywh"], affine["clean_image_wh"], affine["clean_xywh"], strict=True
    )
    for raw, image_wh, expected in triples:
        np.testing.assert_array_equal(clean_box(raw, image_wh), expected)


def test_a_box_outside_the_image_cleans_to_nothing() -> None:
    assert clean_box(np.array([500, 10, 30, 40]), (320, 240))[2] == 0
    assert clean_box(np.array([10, 10, -5, 40]), (320, 240))[2] == 0


@pytest.mark.parametrize("prefix", ["", "syn_"])
def test_crops_match(request: pytest.FixtureRequest, golden: Path, prefix: str) -> None:
    if not prefix:  # of photographs
        shared = request.getfixturevalue("shared")
        golden = shared / "golden"
    affine = dict(np.load(golden / "affine.npz"))
    for i, expected in enumerate(affine[f"{prefix}crop"]):
        if prefix:
            image = affine["syn_image"]
        else:
            folder = shared / "data/coco-mini/train2017"
            image = np.asarray(Image.open(folder / affine["image_file"][i]).convert("RGB"))
        if affine[f"{prefix}flip"][i]:
            image = np.ascontiguousarray(image[:, ::-1])
        center, scale = affine[f"{prefix}center"][i], affine[f"{prefix}scale"][i]
        matrix = udp_affine(center, scale, affine[f"{prefix}rotation"][i], (256, 192))
        np.testing.assert_allclose(matrix, affine[f"{prefix}matrix"][i], atol=1e-4)
        crop = np.empty((256, 192, 3), np.uint8)
        warp_crop(image, matrix, crop)
        difference = np.abs(crop.astype(int) - expected)
        assert np.mean(difference.max(-1) <= GREY_LEVELS) >= 0.999
        joints = affine[f"{prefix}joints_flipped"][i][:, :2]
        np.testing.assert_allclose(
            transform_points(joints, matrix), affine[f"{prefix}joints_out"][i][:, :2], atol=2e-3
        )


def test_normalisation_matches(golden: Path) -> None:
    inputs = np.load(golden / "inputs.npz")
    ours = normalize_crops(inputs["crop"])
    np.testing.assert_allclose(ours, inputs["x"].transpose(0, 2, 3, 1), atol=2e-6)


@given(coordinates, coordinates, sizes, sizes, st.floats(-180, 180))
def test_affine_keeps_the_regions_corners(x: float, y: float, w: float, h: float, r: float) -> None:
    """The region's centre goes to the crop's centre, its size to (crop - 1), whatever the box."""
    center, scale = box_to_center_scale(np.array([x, y, w, h]))
    assert scale[0] / scale[1] == pytest.approx(192 / 256, rel=1e-5)
    matrix = udp_affine(center, scale, 0.0, (256, 192))
    half = scale.astype(np.float64) * 100
    corners = np.stack([center - half, center + half])
    np.testing.assert_allclose(
        transform_points(corners, matrix), [[0, 0], [191, 255]], atol=191 * 4e-7 * 6000 / half.min()
    )
    turned = udp_affine(center, scale, r, (256, 192))
    middle = transform_points(center, turned)
    np.testing.assert_allclose(middle, [95.5, 127.5], atol=191 * 4e-7 * 6000 / half.min())


@given(coordinates, coordinates, st.floats(20, 3000), st.floats(-180, 180))
def test_affine_is_invertible(x: float, y: float, w: float, rotation: float) -> None:
    center, scale = box_to_center_scale(np.array([x, y, w, 1.5 * w]))
    matrix = udp_affine(center, scale, rotation, (256, 192))
    points = center + w * np.array([[0, 0], [0.4, -0.3], [-0.5, 0.9]])
    there = transform_points(points, matrix)
    back = transform_points(there, cv2.invertAffineTransform(matrix))
    np.testing.assert_allclose(back, points, atol=0.02)


box = st.tuples(*[st.floats(-50, 50)] * 2, *[st.floats(0, 60)] * 2).map(np.array)


@given(box, box)
def test_iou_is_a_symmetric_share(a: np.ndarray, b: np.ndarray) -> None:
    assert 0 <= box_iou(a, b) <= 1 + 1e-9
    assert box_iou(a, b) == pytest.approx(box_iou(b, a))


def test_iou_values() -> None:
    a = np.array([0, 0, 10, 10.0])
    assert box_iou(a, a) == 1
    assert box_iou(a, np.array([5, 0, 10, 10.0])) == pytest.approx(1 / 3)
    assert box_iou(a, np.array([20, 0, 10, 10.0])) == 0
