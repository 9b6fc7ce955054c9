"""One person found in one image, and the boxes that people are looked for in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.crops import PIXEL_STD, box_to_center_scale
from vitpose_jax.keypoints.oks import oks_nms, person_scores
from vitpose_jax.keypoints.skeletons import Skeleton

BoxesLike = np.ndarray | list | None

MIN_BOX_SIDE = 1e-3
"""Pixels; far below it the arithmetic of crops, and points in float32, are no numbers any more."""


@dataclass(frozen=True)
class Person:
    """A pose.

    Attributes:
        keypoints: float32 (K, 2), (x, y) in pixels of the image.
        keypoint_scores: float32 (K,), the heatmaps' maxima: about 1 where sure, 0 where lost.
        box: float64 (4,), (x, y, w, h) in pixels of the image, exactly as it was given.
        box_score: the detector's confidence, 1 where unknown.
        track: the person's number throughout a video, from 1; None outside videos.
        heatmaps: float32 (h, w, K) over the box's padded region, where they were asked for.
        category: COCO's category id, the box's own where it came from a file with such.
    """

    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    box: np.ndarray
    box_score: float = 1.0
    track: int | None = None
    heatmaps: np.ndarray | None = None
    category: int = 1

    @property
    def score(self) -> float:
        """Box score x mean of the keypoint scores above 0.2, as in the COCO protocol."""
        return float(person_scores(self.keypoint_scores[None], np.array([self.box_score]))[0])


def box_problem(box: np.ndarray, image_wh: tuple[int, int]) -> str | None:
    """What is wrong with a box (x, y, w, h), or None where there is something to look at."""
    x, y, w, h = (float(v) for v in box[:4])
    if not np.isfinite([x, y, w, h]).all():
        return "has a coordinate that is no number"
    if w < MIN_BOX_SIDE or h < MIN_BOX_SIDE:
        return f"has size {w:g} x {h:g}: width and height must be at least {MIN_BOX_SIDE:g} pixels"
    if x >= image_wh[0] or y >= image_wh[1] or x + w <= 0 or y + h <= 0:
        return f"lies outside the image of {image_wh[0]} x {image_wh[1]} pixels"
    if max(abs(x), abs(y), w, h) > 1e6:
        return "is far larger than any image"
    return None


def as_boxes(boxes: BoxesLike, image: np.ndarray) -> np.ndarray:
    """Boxes as float64 (N, 5): x, y, width, height, score; None is the whole image, scored 1.

    Raises UserError on what is not (N, 4) or (N, 5) numbers, and on scores that are not finite.
    """
    if boxes is None:
        height, width = image.shape[:2]
        return np.array([[0.0, 0.0, width, height, 1.0]])
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UserError("boxes must be numbers, (N, 4) or, with scores, (N, 5)") from None
    if array.size == 0:
        return np.zeros((0, 5))
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise UserError(f"boxes must have shape (N, 4) or, with scores, (N, 5), not {array.shape}")
    if array.shape[1] == 4:
        return np.column_stack([array, np.ones(len(array))])
    for index in np.flatnonzero(~np.isfinite(array[:, 4])):
        raise UserError(f"box {index} has score {array[index, 4]}; scores must be finite numbers")
    return array


def drop_duplicates(
    people: Sequence[Person], skeleton: Skeleton, input_size: tuple[int, int]
) -> list[Person]:
    """The people of one image without those much like a better one (OKS above 0.9), in order.

    As in the COCO protocol, the area behind OKS is that of the padded crop of `input_size` (height,
    width).
    """
    if not people:
        return []
    keypoints = np.stack([person.keypoints for person in people])
    scores = np.array([person.score for person in people])
    boxes = np.nan_to_num(np.stack([person.box for person in people]))
    _, scales = box_to_center_scale(boxes, input_size)
    areas = np.prod(scales * PIXEL_STD, axis=1)
    kept = oks_nms(keypoints, scores, areas, np.array(skeleton.sigmas))
    return [people[i] for i in sorted(kept)]
