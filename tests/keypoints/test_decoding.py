"""Decoding against the original's points, blurring against OpenCV, flips against themselves."""

from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vitpose_jax.keypoints.decoding import (
    blur_heatmaps,
    decode_heatmaps,
    find_peaks,
    flip_average,
    flip_heatmaps,
    heatmap_to_image,
)
from vitpose_jax.keypoints.skeletons import SKELETONS

decode = jax.jit(decode_heatmaps, static_argnames=("method", "kernel"))
FLIP = SKELETONS["coco"].flip_index
ORIGINAL_NAME = {"default": "default", "dark": "unbiased", "udp": "udp"}


def report_excluded(name: str, excluded: np.ndarray, error: np.ndarray) -> None:
    """Show what a tolerance was not asked of (`pytest -s` prints it)."""
    moved = [round(float(e), 3) for e in error[excluded]]
    print(f"{name}: {excluded.sum()} of {excluded.size} points are noise, off by {moved} px")


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("method", ["default", "dark", "udp"])
def test_points_match(golden: Path, method: str, case: int) -> None:
    data = np.load(golden / "decode.npz")
    heatmaps = data[f"set{case}_heatmaps"].transpose(0, 2, 3, 1)
    xy, scores = decode(heatmaps, method=method)
    center, scale = data[f"set{case}_center"], data[f"set{case}_scale"]
    points = heatmap_to_image(xy, center, scale, (64, 48), udp=method == "udp")
    name = f"set{case}_{ORIGINAL_NAME[method]}"
    maxima = data[f"{name}_maxvals"][..., 0]
    np.testing.assert_array_equal(scores, maxima)
    error = np.abs(points - data[f"{name}_preds"]).max(-1)
    excluded = (data[f"{name}_noise"] > 0.01) | ((maxima <= 0) & (method == "udp"))
    report_excluded(name, excluded, error)
    assert excluded.sum() <= 4
    assert error[~excluded].max() < 0.02


@pytest.mark.parametrize("decoder", ["classic", "simple"])
@pytest.mark.parametrize("flip", [True, False])
def test_a_networks_points_match(golden: Path, decoder: str, flip: bool) -> None:
    data = np.load(golden / f"vitpose_tiny_{decoder}.npz")
    heatmaps = data["heatmaps_flip_avg" if flip else "heatmaps"].transpose(0, 2, 3, 1)
    n = len(heatmaps)
    xy, scores = decode(heatmaps)
    points = heatmap_to_image(xy, data["center"][:n], data["scale"][:n], (64, 48))
    expected = data["preds" if flip else "preds_noflip"][:n]
    noise = data["preds_noise" if flip else "preds_noflip_noise"][:n]
    np.testing.assert_array_equal(scores, expected[..., 2])
    error = np.abs(points - expected[..., :2]).max(-1)
    excluded = (noise > 0.01) | (expected[..., 2] <= 0)
    report_excluded(f"{decoder} flip={flip}", excluded, error)
    assert excluded.sum() <= 6
    assert error[~excluded].max() < 0.02


@pytest.mark.parametrize("kernel", [3, 7, 11, 17])
@pytest.mark.parametrize("border", ["reflect", "zero"])
def test_blur_is_opencvs(kernel: int, border: str) -> None:
    maps = np.random.default_rng(0).standard_normal((2, 40, 30, 3)).astype(np.float32)
    mode = {"reflect": cv2.BORDER_REFLECT_101, "zero": cv2.BORDER_CONSTANT}[border]
    ours = np.asarray(blur_heatmaps(jnp.asarray(maps), kernel, border))
    for b in range(2):
        for k in range(3):
            plane = np.ascontiguousarray(maps[b, :, :, k])
            theirs = cv2.GaussianBlur(plane, (kernel, kernel), 0, borderType=mode)
            np.testing.assert_allclose(ours[b, :, :, k], theirs, atol=1e-6)


@pytest.mark.parametrize("method", ["default", "dark", "udp"])
@pytest.mark.parametrize("fill", [-1.0, 0.0, 1.0])
def test_a_flat_map_gives_a_finite_answer(method: str, fill: float) -> None:
    xy, scores = decode(np.full((1, 64, 48, 1), fill, np.float32), method=method)
    assert np.isfinite(xy).all()
    assert float(scores[0, 0]) == fill
    if fill <= 0:
        np.testing.assert_array_equal(xy[0, 0], [-1, -1])


@pytest.mark.parametrize("method", ["default", "dark", "udp"])
def test_a_map_that_is_not_square_and_of_another_size(method: str) -> None:
    y, x = np.mgrid[:72, :96].astype(np.float32)
    bump = np.exp(-((x - 50.3) ** 2 + (y - 20.8) ** 2) / 8)
    xy, _ = decode(bump[None, :, :, None], method=method)
    tolerance = 0.3 if method == "default" else 0.02
    np.testing.assert_allclose(xy[0, 0], [50.3, 20.8], atol=tolerance)


def test_the_first_of_equal_maxima_wins() -> None:
    heatmap = np.zeros((1, 5, 4, 1), np.float32)
    heatmap[0, [1, 3], [2, 0], 0] = 1
    peak, _ = find_peaks(jnp.asarray(heatmap))
    np.testing.assert_array_equal(peak[0, 0], [2, 1])


def test_unknown_method_is_an_error() -> None:
    with pytest.raises(ValueError, match="megvii"):
        decode_heatmaps(np.zeros((1, 4, 4, 1)), method="megvii")


floats = st.floats(-1, 1, width=32, allow_subnormal=False)  # which XLA takes for zero
maps = arrays.arrays(np.float32, (1, 6, 5, 17), elements=floats)


@settings(max_examples=25, deadline=None)
@given(maps)
def test_flipping_twice_changes_nothing(pixels: np.ndarray) -> None:
    heatmaps = jnp.asarray(pixels)
    np.testing.assert_array_equal(flip_heatmaps(flip_heatmaps(heatmaps, FLIP), FLIP), heatmaps)
    mirrored = flip_heatmaps(heatmaps, FLIP)
    np.testing.assert_array_equal(flip_average(heatmaps, mirrored, FLIP), heatmaps)


def test_flip_average_matches(golden: Path) -> None:
    """The stored map of one network: averaging must not shift it and must swap the channels."""
    data = np.load(golden / "hf_vitpose_tiny" / "outputs.npz")
    straight = jnp.asarray(data["heatmaps"][:1].transpose(0, 2, 3, 1))
    turned_back = data["heatmaps_flip_back"].transpose(0, 2, 3, 1)
    raw = flip_heatmaps(jnp.asarray(turned_back), FLIP)  # what the network said of the mirror image
    average = flip_average(straight, raw, FLIP)
    np.testing.assert_allclose(average, (straight + turned_back) / 2, atol=1e-7)


@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(0.1, 20))
def test_heatmap_corners_span_the_region(x: float, y: float, scale: float) -> None:
    """Under UDP the first and the last heatmap pixel are the region's two corners."""
    center, size = np.array([[x, y]], np.float32), np.array([[0.75 * scale, scale]], np.float32)
    corners = heatmap_to_image(np.array([[[0, 0], [47, 63.0]]]), center, size, (64, 48))
    expected = [center[0] - 100 * size[0], center[0] + 100 * size[0]]
    np.testing.assert_allclose(corners[0], expected, atol=1e-2)
