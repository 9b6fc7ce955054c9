"""Resizing feature maps (batch, height, width, channels)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Size = tuple[int, int]


def size_of(x: Array) -> Size:
    """(height, width) of a feature map."""
    return x.shape[1], x.shape[2]


def resize_bilinear(
    x: Float[Array, "batch _ _ channels"], size: Size
) -> Float[Array, "batch _ _ channels"]:
    """Bilinear upsampling with half-pixel centres (PyTorch's align_corners=False)."""
    if size_of(x) == size:
        return x
    shape = (x.shape[0], *size, x.shape[3])
    return jax.image.resize(x, shape, method="bilinear", antialias=False)


def resize_aligned(
    x: Float[Array, "batch _ _ channels"], size: Size
) -> Float[Array, "batch _ _ channels"]:
    """Bilinear upsampling in which the centres of the corner pixels stay (align_corners=True).

    This is UDP's convention for heatmaps: the same keypoint is at the same share of width - 1.
    """
    if size_of(x) == size:
        return x
    scale = jnp.array([(new - 1) / (old - 1) for old, new in zip(size_of(x), size, strict=True)])
    shape = (x.shape[0], *size, x.shape[3])
    shift = 0.5 - 0.5 * scale
    return jax.image.scale_and_translate(
        x, shape, (1, 2), scale, shift, "bilinear", antialias=False
    )


def space_to_depth(x: Float[Array, "batch _ _ channels"], side: int) -> Float[Array, "batch _ _ _"]:
    """Gather the pixels of side x side windows into channels: (B, h / side, w / side, side^2 C)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // side, width // side, -1)


def resize_nearest(
    x: Float[Array, "batch _ _ channels"], size: Size
) -> Float[Array, "batch _ _ channels"]:
    """Nearest-neighbour upsampling; output row i reads row floor(i * h / H), as in PyTorch.

    `jax.image.resize` rounds from pixel centres and differs if H / h is not a whole number. If it
    is, rows and columns are repeated: the gradient of repeating is a sum, but that of indexing is a
    scatter, which is slow on GPUs.
    """
    height, width = size_of(x)
    if size[0] % height == 0 and size[1] % width == 0:
        spread = (x.shape[0], height, size[0] // height, width, size[1] // width, x.shape[3])
        return jnp.broadcast_to(x[:, :, None, :, None], spread).reshape(-1, *size, x.shape[3])
    rows, columns = jnp.arange(size[0]) * height // size[0], jnp.arange(size[1]) * width // size[1]
    return x[:, rows][:, :, columns]


def subsample(
    x: Float[Array, "batch _ _ channels"], stride: int
) -> Float[Array, "batch _ _ channels"]:
    """Every `stride`-th row and column, from the first."""
    return x[:, ::stride, ::stride]


def average_pool(
    x: Float[Array, "batch _ _ channels"], stride: int
) -> Float[Array, "batch _ _ channels"]:
    """Mean over stride x stride windows; the last ones are cropped at the border.

    The size is that of `subsample`: ceil(h / stride) by ceil(w / stride).
    """
    if stride == 1:
        return x
    height, width = size_of(x)
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    padding = ((0, 0), (0, rows * stride - height), (0, columns * stride - width), (0, 0))

    def window_sums(values: Array) -> Array:
        values = jnp.pad(values, padding)
        return values.reshape(-1, rows, stride, columns, stride, values.shape[3]).sum((2, 4))

    return window_sums(x) / window_sums(jnp.ones((1, height, width, 1), x.dtype))
