"""A model's predictions for a few validation people beside the truth, drawn on their crops."""

from collections.abc import Iterable, Mapping
from itertools import islice

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from vitpose_jax.keypoints.drawing import draw_skeleton
from vitpose_jax.keypoints.skeletons import Skeleton

COLUMNS = 4
"""People in a row of the sheet; each has two crops, the prediction and the truth."""
TILE_HEIGHT = 256
"""Smaller crops are enlarged to about this height."""
MIN_SCORE = 0.2
"""Keypoints with a lower score are drawn faded."""
FADED = 0.25
"""The opacity of what is faded."""
GAP = 6
"""Pixels between people."""


def first_people(batches: Iterable[Mapping[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """Return the first `count` people of evaluation batches, as one batch."""
    people = (
        {name: values[row] for name, values in batch.items()}
        for batch in batches
        for row in np.flatnonzero(batch["valid"])
    )
    rows = list(islice(people, count))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def draw_crops(
    crops: UInt8[np.ndarray, "people height width 3"],
    keypoints: Float[np.ndarray, "people keypoints 2"],
    scores: Float[np.ndarray, "people keypoints"],
    truth: Float[np.ndarray, "people keypoints 2"],
    labelled: Bool[np.ndarray, "people keypoints"],
    skeleton: Skeleton,
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Draw a sheet of crops, each twice: with the predicted pose, and with the true one.

    Args:
        crops: the people.
        keypoints: predicted, in pixels of the crops.
        scores: of the predicted keypoints; low ones are faded.
        truth: the annotated keypoints, in pixels of the crops.
        labelled: which of these there are.
        skeleton: names and limbs.
    """
    pairs = []
    for crop, found, score, true, known in zip(
        crops, keypoints, scores, truth, labelled, strict=True
    ):
        opacity = np.where(score >= MIN_SCORE, 1.0, FADED)
        predicted = _titled(_draw(crop, found, opacity, skeleton), "predicted")
        pair = [predicted, _titled(_draw(crop, true, known, skeleton), "truth")]
        pairs.append(np.pad(np.hstack(pair), ((0, GAP), (0, GAP), (0, 0)), constant_values=255))
    per_row = min(COLUMNS, len(pairs))
    pairs += [np.full_like(pairs[0], 255)] * (-len(pairs) % per_row)
    rows = [np.hstack(pairs[i : i + per_row]) for i in range(0, len(pairs), per_row)]
    return np.vstack(rows)[:-GAP, :-GAP]


def _draw(
    crop: np.ndarray, points: np.ndarray, opacity: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """The enlarged crop with a pose."""
    zoom = max(1, TILE_HEIGHT // crop.shape[0])
    canvas = np.ascontiguousarray(np.repeat(np.repeat(crop, zoom, 0), zoom, 1))
    draw_skeleton(canvas, (points + 0.5) * zoom - 0.5, opacity, skeleton)
    return canvas


def _titled(tile: np.ndarray, title: str) -> np.ndarray:
    place, font, size = (4, tile.shape[0] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, title, place, font, size, colour, thickness, cv2.LINE_AA)
    return tile
