"""Heatmap targets against the original's, and the round trip through decoding."""

from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitpose_jax.keypoints.decoding import decode_heatmaps
from vitpose_jax.keypoints.encoding import encode_heatmaps

INPUT, HEATMAP = (256, 192), (64, 48)
encode = jax.jit(encode_heatmaps, static_argnames=("input_size", "heatmap_size", "convention"))
decode = jax.jit(decode_heatmaps, static_argnames=("method", "kernel"))


@pytest.mark.parametrize("convention", ["udp", "msra"])
def test_targets_match(golden: Path, convention: str) -> None:
    data = np.load(golden / "targets.npz")
    xy, visible = data["joints_3d"][..., :2], data["joints_3d_visible"][..., 0]
    targets, weights = encode(xy, visible, INPUT, HEATMAP, convention=convention)
    expected = data[f"{convention}_target"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(targets, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(weights, data[f"{convention}_target_weight"][..., 0])


def test_every_visibility_above_zero_counts_once() -> None:
    xy = np.full((1, 3, 2), 50.0)
    targets, weights = encode(xy, np.array([[0, 1, 2]]), INPUT, HEATMAP)
    np.testing.assert_array_equal(weights, [[0, 1, 1]])
    assert float(targets[..., 0].max()) == 0
    np.testing.assert_array_equal(targets[..., 1], targets[..., 2])


def test_unknown_convention_is_an_error() -> None:
    with pytest.raises(ValueError, match="megvii"):
        encode_heatmaps(np.zeros((1, 1, 2)), np.ones((1, 1)), INPUT, HEATMAP, convention="megvii")


# The Gaussian is cut off 6 heatmap pixels from its centre and blurred by 5 more before it is
# decoded: nearer than that to the border, the round trip is no longer unbiased.
inside_x, inside_y = st.floats(50, 141, width=32), st.floats(50, 205, width=32)


@settings(max_examples=60, deadline=None)
@given(inside_x, inside_y)
def test_encode_then_decode_gives_the_point_back(x: float, y: float) -> None:
    xy = np.array([[[x, y]]], np.float32)
    targets, _ = encode(xy, np.ones((1, 1)), INPUT, HEATMAP)
    found, score = decode(targets, method="udp")
    stride = np.array([191 / 47, 255 / 63])
    np.testing.assert_allclose(np.asarray(found)[0, 0] * stride, xy[0, 0], atol=0.25)
    assert 0.85 < float(score[0, 0]) <= 1


@settings(max_examples=60, deadline=None)
@given(st.floats(-400, 600, width=32), st.floats(-400, 600, width=32), st.floats(0.5, 4))
def test_targets_are_bounded_wherever_the_point_is(x: float, y: float, sigma: float) -> None:
    xy = np.array([[[x, y]]], np.float32)
    for convention in ("udp", "msra"):
        targets, weights = encode_heatmaps(
            xy, np.ones((1, 1)), INPUT, HEATMAP, sigma=sigma, convention=convention
        )
        assert 0 <= float(targets.min()) <= float(targets.max()) <= 1
        assert float(weights[0, 0]) in (0, 1)
        if float(weights[0, 0]) == 0:
            assert float(targets.max()) == 0
