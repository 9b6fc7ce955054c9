"""Checks that a file's boxes are x, y, width, height in pixels of the picture.

A single box in other units often still shows part of its picture; only many boxes together tell.
"""

import json
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Real

from vitpose_jax.inference.boxes import BoxFile
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.journal import Entry
from vitpose_jax.inference.pipeline import Frame, Report, Sink
from vitpose_jax.keypoints.box_forms import beyond_image, fit_image_as_corners, normalized

SHARE = 0.1
"""Share of boxes that must look wrong before a problem is reported."""

_ENOUGH = 0.9  # share of boxes that must fit another format
# With fewer boxes or smaller pictures, coordinates below 100 may well be pixels.
_PERCENT_BOXES, _PERCENT_PIXELS = 10, 250

Boxes = Float[np.ndarray, "n 4"]
Sizes = Real[np.ndarray, "n 2"]


class BoxTally:
    """Counts of what is odd about boxes, from which to tell what is wrong with a whole file."""

    def __init__(self) -> None:
        self._number = self._normalized = self._beyond = self._far = 0
        self._corners = self._centred = 0
        self._far_touch = False
        self._largest, self._smallest_side = 0.0, float("inf")

    def add(self, boxes: Boxes, image_wh: Sizes) -> None:
        """Count boxes on images of these (width, height)."""
        sound = np.isfinite(boxes).all(-1) & (boxes[:, 2:] > 0).all(-1)
        boxes, image_wh = boxes[sound], image_wh[sound]
        if not len(boxes):
            return
        self._number += len(boxes)
        self._normalized += int(normalized(boxes).sum())
        self._beyond += int(beyond_image(boxes, image_wh).sum())
        self._corners += int(fit_image_as_corners(boxes, image_wh).sum())
        self._centred += int(_fit_as_centred(boxes, image_wh).sum())
        inside = _share_inside(boxes, image_wh)
        self._far += int((inside < 0.5).sum())
        self._far_touch |= bool((inside[inside < 0.5] > 0).any())
        self._largest = max(self._largest, float((boxes[:, :2] + boxes[:, 2:]).max()))
        self._smallest_side = min(self._smallest_side, float(image_wh.min()))

    def problem(self) -> str | None:
        """What is wrong with the boxes as a whole, and its likely cause; None if nothing."""
        few, enough = SHARE * self._number, _ENOUGH * self._number
        if not self._number:
            return None
        if self._normalized >= few:
            words = f"{self._share(self._normalized)} lie between 0 and 1"
            return f"{words}: divided by the picture's size? {_EXPECTED}"
        words = f"{self._share(self._beyond)} reach far beyond their picture"
        if self._beyond >= few and self._corners >= enough:
            return f"{words}, and all would fit as corners (x1, y1, x2, y2). {_EXPECTED}"
        if self._beyond >= few and self._centred >= enough:
            return f"{words}, and all would fit as centre x, centre y, width, height. {_EXPECTED}"
        if self._far >= few and self._far_touch:  # those wholly outside are reported one by one
            words = f"{self._share(self._far)} lie mostly outside their picture"
            return f"{words}: from one of another size? {_EXPECTED}"
        small = self._largest <= 100 and self._smallest_side >= _PERCENT_PIXELS
        if small and self._number >= _PERCENT_BOXES:
            return f"all {self._number} boxes lie between 0 and 100: in per cent? {_EXPECTED}"
        return None

    def _share(self, count: int) -> str:
        return f"{count} of {self._number} boxes"


def unit_problem(boxes: Boxes, image_wh: Sizes) -> str | None:
    """What is wrong with boxes as a whole, and its likely cause; None if nothing."""
    tally = BoxTally()
    tally.add(boxes, image_wh)
    return tally.problem()


_EXPECTED = "Write bbox as x, y, width, height in pixels, x and y from the upper left corner"


def _fit_as_centred(boxes: Boxes, image_wh: Sizes) -> Bool[np.ndarray, " n"]:
    """Which boxes fit their pictures if x and y are taken as their centres."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    slack = np.maximum(2, 0.02 * boxes[:, 2:])
    fit: np.ndarray = np.all((low >= -slack) & (high <= image_wh + slack), axis=-1)
    return fit


def _share_inside(boxes: Boxes, image_wh: Sizes) -> Float[np.ndarray, " n"]:
    """The share of each box's area that lies in the picture."""
    low = np.clip(boxes[:, :2], 0, image_wh)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, image_wh)
    return (high - low).prod(-1) / boxes[:, 2:].prod(-1)


class BoxUnitsSink(Sink):
    """Looks at all boxes that are used, and reports at the end what is wrong with them overall."""

    def __init__(self, file: BoxFile) -> None:
        self._file = file
        self._tally = BoxTally()
        self._resized = 0
        self._example: str | None = None
        self._same_shape = False

    def write(self, frame: Frame) -> None:
        """Count a frame's boxes."""
        if frame.people and frame.error is None:
            boxes = np.array([person.box for person in frame.people])
            self._count(frame.source, frame.index, boxes, frame.image_wh)

    def recall(self, entries: Iterable[Entry], sources: Sequence[Source]) -> None:
        """Count the boxes of an earlier run's journal; `sources` are in its order."""
        left = iter(sources)
        source = next(left, None)
        for entry in entries:
            if entry.rows and source is not None:
                boxes = np.array([json.loads(row)["bbox"] for row in entry.rows], float)
                width, height = entry.head["size"]
                self._count(source, entry.head.get("frame"), boxes, (width, height))
            if entry.ends_input:
                source = next(left, None)

    def _count(
        self, source: Source, index: int | None, boxes: Boxes, image_wh: tuple[int, int]
    ) -> None:
        self._tally.add(boxes, np.tile(np.array(image_wh, float), (len(boxes), 1)))
        name = self._file.name_of(source)
        told = None if name is None else self._file.sizes.get(name)
        if told is None or told == image_wh or index:
            return
        self._resized += 1
        # Scaled or turned. With other proportions it may be another picture altogether.
        self._same_shape |= _same_shape(told, image_wh)
        self._example = self._example or (
            f"{source.name} would be {told[0]}x{told[1]}, but is {image_wh[0]}x{image_wh[1]}"
        )

    def close(self) -> Report:
        """Report what is wrong."""
        problems = list(self._file.lost)
        if problem := self._tally.problem():
            problems.append(f"{self._file.path}: {problem}")
        notes: list[str] = []
        if self._resized:
            line = (
                f"{self._file.path}: gives another size for {self._resized} picture(s) than they "
                f"have (upright): {self._example}; its boxes may be elsewhere"
            )
            (problems if self._same_shape else notes).append(line)
        return Report(problems=tuple(problems), notes=tuple(notes))


def _same_shape(told: tuple[int, int], actual: tuple[int, int]) -> bool:
    """Whether the sizes differ only by a scale factor or by a quarter turn."""
    ratio = actual[0] * told[1] / (actual[1] * max(told[0], 1))
    return told == actual[::-1] or abs(ratio - 1) < 0.02
