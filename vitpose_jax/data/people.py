"""The table of people that every pose data set holds in memory, and where its pictures come from.

A data set pairs the table with a source of images (a folder, records, the renderer of synthetic
people) that is asked for one picture at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class People:
    """N people as parallel columns; coordinates are pixels of the original image.

    Attributes:
        image_row: int32 (N,), the row of the person's image in the source of images.
        image_id: int64 (N,), that image's id in the annotations.
        image_wh: int32 (N, 2), that image's width and height.
        annotation_id: int64 (N,), the annotation's id, or the index in a detections file.
        box: float32 (N, 4), (x, y, width, height), cleaned.
        box_score: float32 (N,), 1 for annotated boxes.
        keypoints: float32 (N, K, 2), (x, y).
        visible: float32 (N, K), 0 unlabelled, 1 labelled but hidden, 2 visible.
    """

    image_row: np.ndarray
    image_id: np.ndarray
    image_wh: np.ndarray
    annotation_id: np.ndarray
    box: np.ndarray
    box_score: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.image_row)

    def take(self, rows: np.ndarray) -> "People":
        """The people at `rows` (indices or a mask), in that order."""
        return People(**{name: column[rows] for name, column in self.columns().items()})

    def columns(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def empty(num_people: int, num_keypoints: int) -> "People":
        """A table of zeros, to be filled."""
        return People(
            image_row=np.zeros(num_people, np.int32),
            image_id=np.zeros(num_people, np.int64),
            image_wh=np.zeros((num_people, 2), np.int32),
            annotation_id=np.zeros(num_people, np.int64),
            box=np.zeros((num_people, 4), np.float32),
            box_score=np.ones(num_people, np.float32),
            keypoints=np.zeros((num_people, num_keypoints, 2), np.float32),
            visible=np.zeros((num_people, num_keypoints), np.float32),
        )


def concatenate(tables: Sequence[People]) -> People:
    """Join tables, one after the other."""
    columns = [table.columns() for table in tables]
    return People(**{name: np.concatenate([c[name] for c in columns]) for name in columns[0]})


@dataclass(frozen=True)
class Picture:
    """An image, or what the source holds of it: a part, or a lower resolution.

    Attributes:
        pixels: uint8 (height, width, 3), red, green, blue.
        from_image: float64 (2, 3), original image pixels -> `pixels`; None where they are the same.
    """

    pixels: np.ndarray
    from_image: np.ndarray | None = None


class BadImage(Exception):
    """An image that is missing or cannot be decoded; the message names it and the reason."""


class ImageSource(Protocol):
    """Where pictures come from; must be picklable, and safe to use from several threads."""

    def load(self, people: People, row: int, shrink: float) -> Picture:
        """The picture that a person is on.

        Args:
            people: the data set's table.
            row: the person's row in it.
            shrink: original pixels per crop pixel; the picture may be reduced by up to this.

        Raises:
            BadImage: missing or corrupt.
        """
        ...
