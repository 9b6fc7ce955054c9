"""From keypoints to the heatmaps a network is trained to predict.

There are two conventions, as in the original: "udp" centres the Gaussian on the keypoint itself, on
a grid with stride (crop - 1) / (heatmap - 1); "msra" centres it on the nearest grid point, with
stride crop / heatmap. Both cut it off 3 sigma from the nearest grid point.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Real


def encode_heatmaps(
    crop_xy: Float[Array | np.ndarray, "batch keypoints 2"],
    visible: Real[Array | np.ndarray, "batch keypoints"],
    input_size: tuple[int, int],
    heatmap_size: tuple[int, int],
    sigma: float = 2.0,
    convention: Literal["udp", "msra"] = "udp",
) -> tuple[
    Float32[Array, "batch {heatmap_size[0]} {heatmap_size[1]} keypoints"],
    Float32[Array, "batch keypoints"],
]:
    """Draw one Gaussian (peak 1) for every labelled keypoint.

    Args:
        crop_xy: crop pixels.
        visible: as in COCO; 0 is unlabelled.
        input_size: (height, width) of the crop.
        heatmap_size: (height, width) of the heatmaps.
        sigma: standard deviation, heatmap pixels.
        convention: "udp" or "msra".

    Returns:
        Targets and weights. A weight is 1 if the keypoint is labelled and its Gaussian's window
        overlaps the map, else 0; the targets are 0 wherever the weight is.
    """
    if convention not in ("udp", "msra"):
        raise ValueError(f'convention is "udp" or "msra", not {convention!r}')
    ends = 1 if convention == "udp" else 0
    crop_xy, visible = jnp.asarray(crop_xy), jnp.asarray(visible)
    radius = int(sigma * 3)
    window = jnp.arange(-radius, radius + 1)
    curves, inside = [], visible > 0
    for axis in (1, 0):  # x, then y
        cells, pixels = heatmap_size[axis] - ends, input_size[axis] - ends
        nearest, offset = _split_position(crop_xy[..., 1 - axis], cells, pixels)
        if convention == "msra":
            offset = jnp.zeros_like(offset)
        curve = jnp.exp(-jnp.square(window - offset[..., None]) / (2 * sigma**2))
        curves.append(_place(curve, nearest - radius, heatmap_size[axis]))
        inside &= (nearest - radius < heatmap_size[axis]) & (nearest + radius + 1 >= 0)
    weights = inside.astype(jnp.float32)
    targets = jnp.einsum("bkx,bky,bk->byxk", curves[0], curves[1], weights, precision="highest")
    return targets, weights


def _split_position(crop: jax.Array, cells: int, pixels: int) -> tuple[jax.Array, jax.Array]:
    """Split the heatmap position crop * cells / pixels into int(position + 0.5) and the rest.

    The original works in float64. Here the whole and the fractional part of the crop position are
    scaled separately, in integers and in float32, so that the rest has float32's full precision.
    """
    crop = jnp.clip(crop.astype(jnp.float32), -1e4, 1e4)
    whole = jnp.floor(crop)
    fraction = (crop - whole) * cells
    whole = whole.astype(jnp.int32) * cells

    def rest(nearest: jax.Array) -> jax.Array:  # in units of 1 / pixels, without a division
        return (whole - nearest * pixels) + fraction

    nearest = jnp.trunc(crop * cells / pixels + 0.5).astype(jnp.int32)  # up to rounding
    above = 2 * rest(nearest) + pixels  # 2 * pixels * (position + 0.5 - nearest)
    negative = 2 * (whole + fraction) + pixels < 0  # where truncation rounds up
    too_low = jnp.where(negative, above > 0, above >= 2 * pixels)
    too_high = jnp.where(negative, above <= -2 * pixels, above < 0)
    nearest = nearest + too_low.astype(jnp.int32) - too_high.astype(jnp.int32)
    return nearest, rest(nearest) / pixels


def _place(curve: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """Put curves (B, K, n) on lines of `size` zeros, each at its `start` (B, K)."""
    index = jnp.arange(size) - start[..., None]
    on_curve = (index >= 0) & (index < curve.shape[-1])
    values = jnp.take_along_axis(curve, jnp.clip(index, 0, curve.shape[-1] - 1), axis=-1)
    return jnp.where(on_curve, values, 0)
