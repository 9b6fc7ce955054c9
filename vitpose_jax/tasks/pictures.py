"""A model's predictions for a few validation people, drawn on their crops."""

from collections.abc import Iterable, Mapping
from itertools import islice

import numpy as np
from jaxtyping import Float, UInt8

from vitpose_jax.keypoints.drawing import draw_skeleton
from vitpose_jax.keypoints.skeletons import Skeleton

COLUMNS = 8
MIN_SCORE = 0.2
"""Keypoints with a lower score are not drawn."""


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
    skeleton: Skeleton,
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Draw a sheet of crops with their poses; keypoints are in pixels of the crops."""
    tiles = [
        _draw(crop, points, score >= MIN_SCORE, skeleton)
        for crop, points, score in zip(crops, keypoints, scores, strict=True)
    ]
    per_row = min(COLUMNS, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % per_row)
    rows = [np.hstack(tiles[i : i + per_row]) for i in range(0, len(tiles), per_row)]
    return np.vstack(rows)


def _draw(
    crop: np.ndarray, points: np.ndarray, shown: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    zoom = max(1, 256 // crop.shape[0])
    canvas = np.ascontiguousarray(np.repeat(np.repeat(crop, zoom, 0), zoom, 1))
    draw_skeleton(canvas, (points + 0.5) * zoom - 0.5, shown, skeleton)
    return canvas
