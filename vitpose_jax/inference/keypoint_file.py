"""Keypoints of a video that were found before, from the JSON that `vitpose predict` writes."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.inference.boxes import parse_box, parse_score
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.tracking import Tracker
from vitpose_jax.keypoints.skeletons import Skeleton

MAX_FRAME = 10_000_000
"""Larger numbers are damage, or ids of something else."""


def read_keypoints(path: str | Path, skeleton: Skeleton) -> list[list[Person]]:
    """The people of every frame, from frame 0 on, with track numbers.

    The file is a list of COCO results, each with `frame` (or `image_id`, taken as the frame's
    number) and K x 3 `keypoints`; if an entry has no `track_id`, people are tracked anew.
    Coordinates that are not numbers count as missing.

    Raises:
        UserError: the file is unreadable, has another form or skeleton, or holds several videos.
    """
    entries = _read_entries(Path(path))
    files = {str(entry.get("file_name")) for entry in entries}
    if len(files) > 1:
        names = ", ".join(sorted(files)[:3])
        raise UserError(f"{path}: holds {len(files)} videos ({names}); give a file of one")
    found: dict[int, list[Person]] = {}
    for index, entry in enumerate(entries):
        frame, person = _parse_entry(f"{path}: entry {index}", entry, skeleton)
        found.setdefault(frame, []).append(person)
    frames = [found.get(index, []) for index in range(max(found, default=-1) + 1)]
    if all(person.track is not None for people in frames for person in people):
        return frames
    tracker = Tracker(skeleton)
    return [tracker.update(people) for people in frames]


def _read_entries(path: Path) -> list[dict[str, Any]]:
    entries = read_json(path)
    if isinstance(entries, dict):
        entries = entries.get("annotations")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: expected a list of COCO keypoint results")
    return entries


def _parse_entry(where: str, entry: dict[str, Any], skeleton: Skeleton) -> tuple[int, Person]:
    """(frame, person) of one entry."""
    frame = entry.get("frame", entry.get("image_id"))
    if not isinstance(frame, int) or isinstance(frame, bool) or not 0 <= frame < MAX_FRAME:
        raise UserError(f"{where} has no usable `frame` (a number from 0): {frame!r}")
    try:
        points = np.array(entry["keypoints"], np.float32).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: `keypoints` is not a list of x, y, score in turn") from None
    if len(points) != skeleton.num_keypoints:
        raise UserError(
            f"{where} has {len(points)} keypoints, the forecaster knows {skeleton.num_keypoints}"
        )
    points[~np.isfinite(points).all(axis=1)] = 0
    box, score, track = entry.get("bbox"), entry.get("bbox_score"), entry.get("track_id")
    sides = [math.nan] if box is None else parse_box(where, box)
    return frame, Person(
        points[:, :2],
        points[:, 2],
        np.array(sides) if all(map(math.isfinite, sides)) else _enclosing_box(points),
        1.0 if score is None else parse_score(where, "bbox_score", score),
        track if isinstance(track, int) else None,
    )


def _enclosing_box(points: np.ndarray) -> np.ndarray:
    """The box (4,) around the points (K, 3) that were found."""
    seen = points[points[:, 2] > 0, :2] if (points[:, 2] > 0).any() else np.zeros((1, 2))
    return np.array([*seen.min(0), *np.ptp(seen, axis=0)], np.float64)
