"""Checks that a file's boxes are x, y, width, height in pixels of the picture.

A single box in other units often still shows part of its picture; only many boxes together tell.
"""

import numpy as np
from jaxtyping import Bool, Float, Real

from vitpose_jax.inference.boxes import BoxFile
from vitpose_jax.inference.pipeline import Frame, Report, Sink
from vitpose_jax.keypoints.box_forms import are_corners, beyond_image, normalized

SHARE = 0.1
"""Share of boxes that must look wrong before a problem is reported."""

_ENOUGH = 0.9  # share of boxes that must fit another format
# With fewer boxes or smaller pictures, coordinates below 100 may well be pixels.
_PERCENT_BOXES, _PERCENT_PIXELS = 10, 250

Boxes = Float[np.ndarray, "n 4"]
Sizes = Real[np.ndarray, "n 2"]


def unit_problem(boxes: Boxes, image_wh: Sizes) -> str | None:
    """What is wrong with the boxes of a file as a whole, and its likely cause; None if nothing."""
    sound = np.isfinite(boxes).all(-1) & (boxes[:, 2:] > 0).all(-1)
    boxes, image_wh = boxes[sound], image_wh[sound]
    if not len(boxes):
        return None
    if (share := normalized(boxes)).mean() >= SHARE:
        return f"{_share(share)} lie between 0 and 1: divided by the picture's size? {_EXPECTED}"
    beyond = beyond_image(boxes, image_wh)
    words = f"{_share(beyond)} reach far beyond their picture"
    if are_corners(boxes, image_wh):
        return f"{words}, and all would fit as corners (x1, y1, x2, y2). {_EXPECTED}"
    if beyond.mean() >= SHARE and _are_centred(boxes, image_wh):
        return f"{words}, and all would fit as centre x, centre y, width, height. {_EXPECTED}"
    inside = _share_inside(boxes, image_wh)
    far = inside < 0.5
    if (
        far.mean() >= SHARE and (inside[far] > 0).any()
    ):  # boxes wholly outside are reported one by one
        return (
            f"{_share(far)} lie mostly outside their picture: from one of another size? {_EXPECTED}"
        )
    small = (boxes[:, :2] + boxes[:, 2:]).max() <= 100 and image_wh.min() >= _PERCENT_PIXELS
    if small and len(boxes) >= _PERCENT_BOXES:
        return f"all {len(boxes)} boxes lie between 0 and 100: in per cent? {_EXPECTED}"
    return None


_EXPECTED = "Write bbox as x, y, width, height in pixels, x and y from the upper left corner"


def _share(which: Bool[np.ndarray, " n"]) -> str:
    return f"{which.sum()} of {len(which)} boxes"


def _are_centred(boxes: Boxes, image_wh: Sizes) -> bool:
    """Whether the boxes fit their pictures if x and y are taken as their centres."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    slack = np.maximum(2, 0.02 * boxes[:, 2:])
    fit = ((low >= -slack) & (high <= image_wh + slack)).all(-1)
    return bool(fit.mean() >= _ENOUGH)


def _share_inside(boxes: Boxes, image_wh: Sizes) -> Float[np.ndarray, " n"]:
    """The share of each box's area that lies in the picture."""
    low = np.clip(boxes[:, :2], 0, image_wh)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, image_wh)
    return (high - low).prod(-1) / boxes[:, 2:].prod(-1)


class BoxUnitsSink(Sink):
    """Collects all boxes that were used, and reports at the end what is wrong with them overall."""

    def __init__(self, file: BoxFile) -> None:
        self._file = file
        self._boxes: list[np.ndarray] = []
        self._sizes: list[tuple[int, int]] = []
        self._resized: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}

    def write(self, frame: Frame) -> None:
        """Store a frame's boxes."""
        if not frame.people or frame.error is not None:
            return
        self._boxes += [person.box for person in frame.people]
        self._sizes += [frame.image_wh] * len(frame.people)
        name = self._file.name_of(frame.source)
        told = None if name is None else self._file.sizes.get(name)
        if told is not None and told != frame.image_wh:
            self._resized[frame.source.name] = told, frame.image_wh

    def close(self) -> Report:
        """Report what is wrong."""
        problems = list(self._file.lost)
        if self._boxes:
            boxes, sizes = np.array(self._boxes), np.array(self._sizes, float)
            if problem := unit_problem(boxes, sizes):
                problems.append(f"{self._file.path}: {problem}")
        notes: list[str] = []
        if self._resized:
            name, ((width, height), actual) = next(iter(self._resized.items()))
            line = (
                f"{self._file.path}: gives another size for {len(self._resized)} picture(s) than "
                f"they have (upright): {name} would be {width}x{height}, but is "
                f"{actual[0]}x{actual[1]}; its boxes may be elsewhere"
            )
            # Scaled or turned. With other proportions it may be another picture altogether.
            same = any(_same_shape(*sizes) for sizes in self._resized.values())
            (problems if same else notes).append(line)
        return Report(problems=tuple(problems), notes=tuple(notes))


def _same_shape(told: tuple[int, int], actual: tuple[int, int]) -> bool:
    """Whether the sizes differ only by a scale factor or by a quarter turn."""
    ratio = actual[0] * told[1] / (actual[1] * max(told[0], 1))
    return told == actual[::-1] or abs(ratio - 1) < 0.02
