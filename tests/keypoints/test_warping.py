"""Crops against OpenCV's plain warp of the whole image."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from vitpose_jax.keypoints.crops import box_to_center_scale, udp_affine
from vitpose_jax.keypoints.warping import MAX_WIDENED_PIXELS, warp_crop, warp_crops

SIZE = (256, 192)
CV5 = int(cv2.__version__.split(".")[0]) >= 5  # older ones interpolate in steps of 1/32 pixel


def _crop(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    crop = np.full((*SIZE, 3), 77, np.uint8)
    warp_crop(image, matrix, crop)
    return crop


@pytest.mark.parametrize("size", [1, 3, 10])
def test_the_part_seen_is_warped_as_the_whole(size: int) -> None:
    """Up to one grey level, wherever the crop lies, also at and beyond the image's edge."""
    rng = np.random.default_rng(size)
    image = rng.integers(0, 256, (211, 307, 3), np.uint8)
    for _ in range(8):
        matrix = np.array([[1, 0, 0], [0, 1, 0]]) + rng.normal(0, 0.4, (2, 3)) * (1, 1, 60)
        matrix[:, 2] *= size
        matrix[:, :2] *= rng.uniform(0.3, 2)
        plain = cv2.warpAffine(image, matrix, SIZE[::-1], flags=cv2.INTER_LINEAR)
        off = np.abs(_crop(image, matrix).astype(int) - plain)
        assert off.max() <= (1 if CV5 else 8)
        assert off.mean() < (0.01 if CV5 else 0.4)


@pytest.mark.parametrize("height", [211, 1 + MAX_WIDENED_PIXELS // 640])
def test_people_of_an_image_are_cut_as_opencv_cuts_them(height: int) -> None:
    """To the bit, with and without the fourth channel, whatever the thread cut before."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, 640, 3), np.uint8)
    boxes = np.array(
        [[-30, 20, 100, 150], [200, 10, 90, 60.5], [300, 150, 20, 40], [0, 0, 640, 900]]
    )
    matrices = udp_affine(*box_to_center_scale(boxes), 0.0, SIZE)
    crops = np.full((4, *SIZE, 3), 77, np.uint8)
    for reverse in (False, True):
        source = image[:, ::-1] if reverse else image
        warp_crops(source, matrices, crops)
        for matrix, crop in zip(matrices, crops, strict=True):
            plain = cv2.warpAffine(source, matrix, SIZE[::-1], flags=cv2.INTER_LINEAR)
            np.testing.assert_array_equal(crop, plain)
    warp_crops(image, matrices[:0], crops[:0])


def test_a_very_long_image_can_be_cropped() -> None:
    """OpenCV alone refuses sources beyond 32767 pixels."""
    image = np.zeros((600, 40000, 3), np.uint8)
    image[:, 39000:] = 200
    center, scale = box_to_center_scale(np.array([39000, 100, 300, 400]))
    matrix = udp_affine(center, scale, 20.0, SIZE)
    near = matrix.astype(float)
    near[:, 2] += near[:, :2] @ [30000, 0]
    plain = cv2.warpAffine(np.ascontiguousarray(image[:, 30000:]), near, SIZE[::-1])
    assert np.abs(_crop(image, matrix).astype(int) - plain).max() <= 1
    center, scale = box_to_center_scale(np.array([0, 0, 40000, 600]))
    whole = udp_affine(center, scale, 0.0, SIZE)
    crops = np.empty((1, *SIZE, 3), np.uint8)
    warp_crops(image, whole[None], crops)
    whole = _crop(image, whole)
    np.testing.assert_array_equal(crops[0], whole)
    assert whole[:, :160].max() == 0 < whole[:, 170:].max()


def test_nothing_but_black_outside_the_image() -> None:
    image = np.full((40, 30, 3), 255, np.uint8)
    center, scale = box_to_center_scale(np.array([500, 500, 30, 40]))
    assert _crop(image, udp_affine(center, scale, 0.0, SIZE)).max() == 0


def test_opencvs_threads_are_the_users_again_afterwards() -> None:
    before = cv2.getNumThreads()
    image, matrix = np.zeros((300, 400, 3), np.uint8), np.array([[1.0, 0, 0], [0, 1, 0]])
    try:
        cv2.setNumThreads(3)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: _crop(image, matrix), range(100)))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
