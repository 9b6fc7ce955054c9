"""People's boxes, and the affine map from a box to the network's crop.

Unbiased data processing (UDP: Huang et al., "The Devil is in the Details", CVPR 2020): sizes count
the intervals between pixels, so a crop of 192x256 pixels spans 191x255 units. Points are (x, y).
"""

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Real

PIXEL_STD = 200.0
"""Scales are sizes divided by this many pixels, a convention inherited from MPII."""


def clean_box(
    box_xywh: Real[np.ndarray, "*boxes 4"],
    image_wh: tuple[int, int] | Int[np.ndarray, "*boxes 2"],
) -> Float64[np.ndarray, "*boxes 4"]:
    """Clip annotated boxes to their image, as the original does before training and evaluation.

    The far corner is x1 + max(0, w - 1), so even a box inside the image loses one pixel.

    Args:
        box_xywh: image pixels.
        image_wh: (width, height) of the image, or of each box's image.

    Returns:
        (x, y, w, h); the width or height is 0 if nothing is left (drop such boxes).
    """
    box = np.asarray(box_xywh, np.float64)
    low = np.maximum(box[..., :2], 0)
    high = np.minimum(np.asarray(image_wh) - 1, low + np.maximum(box[..., 2:] - 1, 0))
    return np.concatenate([low, np.maximum(high - low, 0)], axis=-1)


def box_iou(a: Real[np.ndarray, "4"], b: Real[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes (x, y, w, h); 0 for boxes without area."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    common = float(np.prod(np.maximum(high - low, 0)))
    union = float(np.prod(a[2:]) + np.prod(b[2:])) - common
    return min(common / union, 1.0) if union > 0 else 0.0


def box_to_center_scale(
    box_xywh: Real[np.ndarray, "*boxes 4"],
    input_size: tuple[int, int] = (256, 192),
    padding: float = 1.25,
) -> tuple[Float32[np.ndarray, "*boxes 2"], Float32[np.ndarray, "*boxes 2"]]:
    """The region to crop: the box, extended to the crop's aspect ratio and then padded.

    Args:
        box_xywh: image pixels.
        input_size: (height, width) of the crop.
        padding: how much larger than the box the region is.

    Returns:
        center, image pixels, and scale, (width, height) / PIXEL_STD.
    """
    x, y, w, h = np.moveaxis(np.asarray(box_xywh, np.float64), -1, 0)
    aspect = input_size[1] / input_size[0]
    center = np.stack([x + w * 0.5, y + h * 0.5], axis=-1).astype(np.float32)
    size = np.stack([np.maximum(w, h * aspect), np.maximum(h, w / aspect)], axis=-1)
    scale = (size / PIXEL_STD).astype(np.float32) * np.float32(padding)
    return center, scale


def udp_affine(
    center: Float[np.ndarray, "*boxes 2"],
    scale: Float[np.ndarray, "*boxes 2"],
    rotation: float | Float[np.ndarray, "*boxes"],
    input_size: tuple[int, int],
) -> Float32[np.ndarray, "*boxes 2 3"]:
    """The affine map from image pixels to crop pixels.

    Args:
        center: image pixels.
        scale: (width, height) / PIXEL_STD.
        rotation: degrees; turns the content of the crop clockwise.
        input_size: (height, width) of the crop.
    """
    cx, cy = np.moveaxis(np.asarray(center, np.float64), -1, 0)
    size = np.asarray(scale, np.float32) * np.float32(PIXEL_STD)
    width, height = np.moveaxis(size.astype(np.float64), -1, 0)
    radians = np.deg2rad(rotation)
    cos, sin = np.cos(radians), np.sin(radians)
    sx, sy = (input_size[1] - 1) / width, (input_size[0] - 1) / height
    matrix = np.empty((*np.shape(cx), 2, 3), np.float32)
    matrix[..., 0, 0], matrix[..., 0, 1] = cos * sx, -sin * sx
    matrix[..., 1, 0], matrix[..., 1, 1] = sin * sy, cos * sy
    matrix[..., 0, 2] = sx * (-cx * cos + cy * sin + 0.5 * width)
    matrix[..., 1, 2] = sy * (-cx * sin - cy * cos + 0.5 * height)
    return matrix
