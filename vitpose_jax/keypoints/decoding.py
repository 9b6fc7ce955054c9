"""From heatmaps to keypoints, in JAX, so that only points and scores leave the device.

There are three ways to reach subpixel precision, as in the original:
"default": the maximum, moved a quarter of a pixel towards its higher neighbour.
"dark": Zhang et al., "Distribution-Aware Coordinate Representation", CVPR 2020: blur, logarithm,
    and one Newton step to the peak of the Gaussian around the maximum.
"udp": the same idea in the form of Huang et al. (CVPR 2020), which the released weights use.
"""

from functools import lru_cache
from typing import Literal, get_args

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from vitpose_jax.keypoints.crops import PIXEL_STD

DecodeMethod = Literal["udp", "dark", "default"]
DECODE_METHODS = get_args(DecodeMethod)
Border = Literal["reflect", "zero"]
Heatmaps = Float[Array, "batch height width keypoints"]


def decode_heatmaps(
    heatmaps: Float[Array | np.ndarray, "batch height width keypoints"],
    method: DecodeMethod = "udp",
    kernel: int = 11,
) -> tuple[Float32[Array, "batch keypoints 2"], Float32[Array, "batch keypoints"]]:
    """Find each heatmap's peak with subpixel precision.

    Args:
        heatmaps: of any float type.
        method: "udp", "dark" or "default" (see above).
        kernel: side of the Gaussian kernel that "udp" and "dark" blur with, odd; 11 suits sigma 2.

    Returns:
        Positions in heatmap pixels, (-1, -1) where no value is positive, and the maxima as scores.
    """
    heatmaps = jnp.asarray(heatmaps, jnp.float32)
    peak, scores = find_peaks(heatmaps)
    if method == "default":
        shift = _quarter_shift(heatmaps, peak)
    elif method == "dark":
        shift = _dark_shift(heatmaps, peak, kernel)
    elif method == "udp":
        shift = _udp_shift(heatmaps, peak, kernel)
    else:
        raise ValueError(f'method is "udp", "dark" or "default", not {method!r}')
    found = scores[..., None] > 0
    return jnp.where(found, peak + shift, -1.0), scores


def heatmap_to_image(
    heatmap_xy: Float[Array | np.ndarray, "batch keypoints 2"],
    center: Float[Array | np.ndarray, "batch 2"],
    scale: Float[Array | np.ndarray, "batch 2"],
    heatmap_size: tuple[int, int],
    udp: bool = True,
) -> Float[Array, "batch keypoints 2"]:
    """Map points from heatmap pixels to pixels of the original image.

    Args:
        heatmap_xy: heatmap pixels.
        center, scale: the crop's region, from `box_to_center_scale`.
        heatmap_size: (height, width).
        udp: whether sizes count intervals (the region spans heatmap_size - 1) instead of pixels.
    """
    size = scale[:, None] * PIXEL_STD
    spans = jnp.array(heatmap_size[::-1], jnp.float32) - (1 if udp else 0)
    return jnp.asarray(heatmap_xy) * (size / spans) + center[:, None] - size * 0.5


def flip_average(
    heatmaps: Heatmaps, flipped: Heatmaps, flip_index: Int[np.ndarray, " keypoints"]
) -> Heatmaps:
    """Average heatmaps with those of the mirrored crops, after mirroring these back."""
    return 0.5 * (heatmaps + flip_heatmaps(flipped, flip_index))


def flip_heatmaps(heatmaps: Heatmaps, flip_index: Int[np.ndarray, " keypoints"]) -> Heatmaps:
    """Mirror heatmaps and swap the channels of left and right."""
    return heatmaps[:, :, ::-1][..., flip_index]


def find_peaks(
    heatmaps: Heatmaps,
) -> tuple[Int32[Array, "batch keypoints 2"], Float[Array, "batch keypoints"]]:
    """Positions (x, y) and values of the maxima."""
    batch, height, width, count = heatmaps.shape
    flat = heatmaps.reshape(batch, height * width, count)
    index = jnp.argmax(flat, axis=1)
    return jnp.stack([index % width, index // width], axis=-1), jnp.max(flat, axis=1)


def _quarter_shift(heatmaps: jax.Array, peak: jax.Array) -> jax.Array:
    patch = _neighbourhood(heatmaps, peak, radius=1)
    dx, dy = patch[..., 1, 2] - patch[..., 1, 0], patch[..., 2, 1] - patch[..., 0, 1]
    shift = 0.25 * jnp.sign(jnp.stack([dx, dy], axis=-1))
    return _where_inside(heatmaps, peak, margin=1, shift=shift)


def _dark_shift(heatmaps: jax.Array, peak: jax.Array, kernel: int) -> jax.Array:
    blurred = blur_heatmaps(heatmaps, kernel, border="zero")
    restore = jnp.max(heatmaps, axis=(1, 2)) / jnp.max(blurred, axis=(1, 2))
    blurred = blurred * restore[:, None, None]
    p = _neighbourhood(jnp.log(jnp.maximum(blurred, 1e-10)), peak, radius=2)
    dx, dy = 0.5 * (p[..., 2, 3] - p[..., 2, 1]), 0.5 * (p[..., 3, 2] - p[..., 1, 2])
    dxx = 0.25 * (p[..., 2, 4] - 2 * p[..., 2, 2] + p[..., 2, 0])
    dyy = 0.25 * (p[..., 4, 2] - 2 * p[..., 2, 2] + p[..., 0, 2])
    dxy = 0.25 * (p[..., 3, 3] - p[..., 1, 3] - p[..., 3, 1] + p[..., 1, 1])
    return _where_inside(heatmaps, peak, margin=2, shift=_newton_step(dx, dy, dxx, dxy, dyy))


def _udp_shift(heatmaps: jax.Array, peak: jax.Array, kernel: int) -> jax.Array:
    blurred = blur_heatmaps(heatmaps, kernel, border="reflect")
    p = _neighbourhood(jnp.log(jnp.clip(blurred, 0.001, 50)), peak, radius=1)
    dx, dy = 0.5 * (p[..., 1, 2] - p[..., 1, 0]), 0.5 * (p[..., 2, 1] - p[..., 0, 1])
    eps = jnp.finfo(jnp.float32).eps  # the original's guard against singular matrices
    dxx = p[..., 1, 2] - 2 * p[..., 1, 1] + p[..., 1, 0] + eps
    dyy = p[..., 2, 1] - 2 * p[..., 1, 1] + p[..., 0, 1] + eps
    dxy = 0.5 * (p[..., 2, 2] - p[..., 1, 2] - p[..., 2, 1] + 2 * p[..., 1, 1])
    dxy = dxy + 0.5 * (p[..., 0, 0] - p[..., 1, 0] - p[..., 0, 1])
    return _newton_step(dx, dy, dxx, dxy, dyy)


def _newton_step(
    dx: jax.Array, dy: jax.Array, dxx: jax.Array, dxy: jax.Array, dyy: jax.Array
) -> jax.Array:
    """-H^-1 g of 2x2 systems, (..., 2); no step where the Hessian is singular."""
    determinant = dxx * dyy - dxy * dxy
    step = jnp.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1) / determinant[..., None]
    return jnp.where((determinant != 0)[..., None], step, 0.0)


def _where_inside(heatmaps: jax.Array, peak: jax.Array, margin: int, shift: jax.Array) -> jax.Array:
    """The shift where 1 < x < w - margin and 1 < y < h - margin (the original's test), else 0."""
    limit = jnp.array(heatmaps.shape[1:3][::-1]) - margin
    return jnp.where(jnp.all((peak > 1) & (peak < limit), axis=-1, keepdims=True), shift, 0.0)


def _neighbourhood(maps: jax.Array, peak: jax.Array, radius: int) -> jax.Array:
    """The values around each peak, (B, K, n, n) indexed [y, x]; the edge repeats beyond the map."""
    batch, height, width, count = maps.shape
    offsets = jnp.arange(-radius, radius + 1)
    x = jnp.clip(peak[..., 0, None] + offsets, 0, width - 1)
    y = jnp.clip(peak[..., 1, None] + offsets, 0, height - 1)
    b = jnp.arange(batch)[:, None, None, None]
    k = jnp.arange(count)[None, :, None, None]
    return maps[b, y[..., :, None], x[..., None, :], k]


def blur_heatmaps(heatmaps: Heatmaps, kernel: int, border: Border) -> Heatmaps:
    """OpenCV's GaussianBlur(map, (kernel, kernel), 0) of each map, as two small matmuls.

    "reflect" is OpenCV's default border (the edge pixel itself is not repeated).
    """
    _, height, width, _ = heatmaps.shape
    rows = _blur_matrix(height, kernel, border)
    columns = _blur_matrix(width, kernel, border)
    blurred = jnp.einsum("yh,bhwk->bywk", rows, heatmaps, precision="highest")
    return jnp.einsum("xw,bywk->byxk", columns, blurred, precision="highest")


@lru_cache
def _blur_matrix(size: int, kernel: int, border: Border) -> np.ndarray:
    """float32 (size, size), the blur along one axis; OpenCV derives sigma from `kernel`."""
    weights = cv2.getGaussianKernel(kernel, 0, cv2.CV_32F)[:, 0]
    radius = kernel // 2
    padding, unit = ((radius, radius), (0, 0)), np.eye(size, dtype=np.float32)
    unit = np.pad(unit, padding, mode="reflect") if border == "reflect" else np.pad(unit, padding)
    return np.sum([w * unit[i : i + size] for i, w in enumerate(weights)], axis=0)
