"""What a model sees in a few validation people, drawn on their crops."""

from collections.abc import Iterable, Mapping

import numpy as np

from vitpose_jax.keypoints.drawing import draw_skeleton
from vitpose_jax.keypoints.skeletons import Skeleton

COLUMNS = 8
MIN_SCORE = 0.2


def first_people(batches: Iterable[Mapping[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """The first `count` valid rows of evaluation batches, ids left out."""
    rows: list[dict[str, np.ndarray]] = []
    for batch in batches:
        for row in np.flatnonzero(batch["valid"]):
            rows.append({name: values[row] for name, values in batch.items()})
            if len(rows) == count:
                break
        if len(rows) == count:
            break
    names = [name for name, value in rows[0].items() if np.asarray(value).dtype != np.int64]
    return {name: np.stack([row[name] for row in rows]) for name in names}


def draw_crops(
    people: Mapping[str, np.ndarray],
    keypoints: np.ndarray,
    scores: np.ndarray,
    skeleton: Skeleton,
) -> np.ndarray:
    """A sheet, uint8 (H, W, 3): each person's crop with the predicted pose.

    people: `crop` uint8 (N, h, w, 3). keypoints (N, K, 2) crop pixels; scores (N, K), of which
    those below 0.2 are not drawn.
    """
    tiles = [
        _draw(crop, points, score >= MIN_SCORE, skeleton)
        for crop, points, score in zip(people["crop"], keypoints, scores, strict=True)
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % min(COLUMNS, len(tiles)))
    per_row = min(COLUMNS, len(tiles))
    rows = [np.hstack(tiles[i : i + per_row]) for i in range(0, len(tiles), per_row)]
    return np.vstack(rows)


def _draw(
    crop: np.ndarray, points: np.ndarray, shown: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    zoom = max(1, 256 // crop.shape[0])
    canvas = np.ascontiguousarray(np.repeat(np.repeat(crop, zoom, 0), zoom, 1))
    draw_skeleton(canvas, (points + 0.5) * zoom - 0.5, shown, skeleton)
    return canvas
