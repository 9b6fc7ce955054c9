"""A person found in an image, and the boxes to search for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Float64

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import Pixels
from vitpose_jax.keypoints.crops import PIXEL_STD, box_to_center_scale
from vitpose_jax.keypoints.oks import oks_nms, person_scores
from vitpose_jax.keypoints.skeletons import Skeleton

if TYPE_CHECKING:
    import supervision

BoxesLike = np.ndarray | Sequence[Any] | None
"""(N, 4) x, y, width, height, or (N, 5) with a score at the end; None is the whole image."""

MIN_BOX_SIDE = 1e-3
"""In pixels; for far smaller boxes, float32 is too coarse to compute crops and points."""


@dataclass(frozen=True)
class Person:
    """A pose.

    Attributes:
        keypoints: (x, y) in pixels of the image.
        keypoint_scores: the heatmaps' maxima: about 1 if certain, 0 if not found.
        box: x, y, width, height in pixels of the image, exactly as given.
        box_score: the detector's confidence; 1 if unknown.
        track: the person's number throughout a video, from 1; None outside videos.
        heatmaps: over the box's padded region, if requested.
        category: COCO category id, from the box file if it gives one.
        skeleton: what the keypoints are called and how they are joined, if known.

    Example:
        >>> points, box = np.zeros((17, 2)), np.array([10.0, 20, 60, 150])
        >>> person = Person(points, np.full(17, 0.75), box, 0.5, skeleton=SKELETONS["coco"])
        >>> person.score
        0.375
        >>> person["left_wrist"]  # x, y, score
        array([0.  , 0.  , 0.75])
        >>> person.to_dict()["keypoints"]["nose"]
        {'x': 0.0, 'y': 0.0, 'score': 0.75}
    """

    keypoints: Float[np.ndarray, "keypoints 2"]
    keypoint_scores: Float[np.ndarray, " keypoints"]
    box: Float64[np.ndarray, "4"]
    box_score: float = 1.0
    track: int | None = None
    heatmaps: Float32[np.ndarray, "height width channels"] | None = None
    category: int = 1
    skeleton: Skeleton | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The keypoints' names; their numbers if they have none."""
        if self.skeleton is None:
            return tuple(map(str, range(len(self.keypoints))))
        return self.skeleton.keypoint_names

    def __getitem__(self, name: str) -> Float[np.ndarray, "3"]:
        """The x, y and score of the keypoint of this name.

        Raises:
            UserError: there is no such keypoint.
        """
        if name not in self.names:
            raise UserError(f"no keypoint {name!r}: there are {', '.join(self.names)}")
        index = self.names.index(name)
        return np.append(self.keypoints[index], self.keypoint_scores[index])

    def to_dict(self) -> dict[str, Any]:
        """What is known of the person, as JSON-serialisable values; numbers not finite are None."""
        points = np.column_stack([self.keypoints, self.keypoint_scores])
        return {
            "score": _plain(self.score),
            "box": [_plain(side) for side in self.box],
            "box_score": _plain(self.box_score),
            "track": self.track,
            "keypoints": {
                name: {"x": _plain(x), "y": _plain(y), "score": _plain(score)}
                for name, (x, y, score) in zip(self.names, points, strict=True)
            },
        }

    @property
    def score(self) -> float:
        """Box score times the mean of the keypoint scores above 0.2, as in the COCO protocol."""
        return float(person_scores(self.keypoint_scores[None], np.array([self.box_score]))[0])


def to_supervision(people: Sequence[Person]) -> "supervision.KeyPoints":
    """People as the library `supervision` takes them: `pip install supervision`.

    Example:
        >>> points, box = np.zeros((17, 2)), np.array([10.0, 20, 60, 150])
        >>> to_supervision([Person(points, np.ones(17), box)]).xy.shape
        (1, 17, 2)
    """
    import supervision

    if not people:
        return supervision.KeyPoints.empty()
    xy = np.stack([person.keypoints for person in people]).astype(np.float32)
    scores = np.stack([person.keypoint_scores for person in people]).astype(np.float32)
    return supervision.KeyPoints(xy, None, scores)


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def box_problem(box: Float[np.ndarray, " sides"], image_wh: tuple[int, int]) -> str | None:
    """What is wrong with a box (x, y, width, height, ...); None if it shows part of the image."""
    x, y, w, h = (float(v) for v in box[:4])
    if not np.isfinite([x, y, w, h]).all():
        return "has a coordinate that is not a number"
    if w < MIN_BOX_SIDE or h < MIN_BOX_SIDE:
        return f"has size {w:g} x {h:g}: width and height must be at least {MIN_BOX_SIDE:g} pixels"
    if x >= image_wh[0] or y >= image_wh[1] or x + w <= 0 or y + h <= 0:
        return f"lies outside the image of {image_wh[0]} x {image_wh[1]} pixels"
    if max(abs(x), abs(y), w, h) > 1e6:
        return "is far larger than any image"
    return None


def as_boxes(boxes: BoxesLike, image: Pixels) -> Float64[np.ndarray, "boxes 5"]:
    """Boxes with scores: x, y, width, height, score; the score is 1 if none is given.

    Raises:
        UserError: another shape, something other than numbers, or a score that is not finite.
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
    """Drop people who are near-duplicates of a better-scored one (OKS above 0.9), keeping order.

    As in the COCO protocol, the area for OKS is that of the padded crop, which depends on
    `input_size` (height, width).
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
