"""Recognising boxes that are not (x, y, width, height) in pixels of their image."""

import numpy as np
from jaxtyping import Bool, Float, Real

CORNERS_WORDS = "boxes that look like corners (x1, y1, x2, y2) instead of (x, y, width, height)"
NORMALIZED_WORDS = "boxes between 0 and 1, as if divided by the image's size, instead of in pixels"
BEYOND_WORDS = "boxes that reach far beyond their image"

_SHARE = 0.1
_ENOUGH = 0.9


def normalized(boxes: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
    """Which boxes lie between 0 and 1."""
    inside: np.ndarray = (boxes.min(-1) >= 0) & (boxes.max(-1) <= 1) & (boxes[:, 2:].min(-1) > 0)
    return inside


def beyond_image(
    boxes: Float[np.ndarray, "n 4"], image_wh: Real[np.ndarray, "n 2"]
) -> Bool[np.ndarray, " n"]:
    """Which boxes reach beyond their image by more than a tenth of their longer side."""
    far = np.maximum(-boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - image_wh).max(-1)
    return far > np.maximum(2, 0.1 * boxes[:, 2:].max(-1))


def are_corners(boxes: Float[np.ndarray, "n 4"], image_wh: Real[np.ndarray, "n 2"]) -> bool:
    """Whether a file's boxes are corners: many leave their image, but nearly all fit as corners."""
    if not len(boxes) or beyond_image(boxes, image_wh).mean() < _SHARE:
        return False
    return bool(fit_image_as_corners(boxes, image_wh).mean() >= _ENOUGH)


def fit_image_as_corners(
    boxes: Float[np.ndarray, "n 4"], image_wh: Real[np.ndarray, "n 2"]
) -> Bool[np.ndarray, " n"]:
    """Which boxes fit their image if they are taken as corners (x1, y1, x2, y2)."""
    fit: np.ndarray = np.all(
        (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= image_wh + 2), axis=-1
    )
    return fit


def fit_as_corners(
    boxes: Float[np.ndarray, "n 4"],
    points: Float[np.ndarray, "n k 2"],
    labelled: Bool[np.ndarray, "n k"],
) -> Bool[np.ndarray, " n"]:
    """Which boxes fit their labelled points clearly better as corners than as (x, y, w, h)."""
    low = np.where(labelled[..., None], points, np.inf).min(-2)
    high = np.where(labelled[..., None], points, -np.inf).max(-2)

    def overlap(far: np.ndarray) -> np.ndarray:
        sides = np.minimum(far, high) - np.maximum(boxes[:, :2], low)
        common = np.maximum(sides, 0).prod(-1)
        both = (far - boxes[:, :2]).prod(-1) + (high - low).prod(-1) - common
        return common / np.maximum(both, 1e-9)

    with np.errstate(invalid="ignore"):
        better = overlap(boxes[:, 2:]) > 1.3 * overlap(boxes[:, :2] + boxes[:, 2:])
    inside = (high <= boxes[:, 2:] * 1.05 + 2).all(-1) & (boxes[:, 2:] > boxes[:, :2]).all(-1)
    return better & inside & (labelled.sum(-1) > 2)


def mostly_outside(
    boxes: Float[np.ndarray, "n 4"],
    points: Float[np.ndarray, "n k 2"],
    labelled: Bool[np.ndarray, "n k"],
) -> Bool[np.ndarray, " n"]:
    """Which boxes, widened by a tenth, have most of their labelled points outside."""
    margin = 0.1 * boxes[:, None, 2:].max(-1, keepdims=True)
    low, high = boxes[:, None, :2] - margin, boxes[:, None, :2] + boxes[:, None, 2:] + margin
    outside = ((points < low) | (points > high)).any(-1) & labelled
    return outside.sum(-1) > 0.5 * labelled.sum(-1)
