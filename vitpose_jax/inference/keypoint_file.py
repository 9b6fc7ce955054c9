"""Keypoints of a video that were found before, from the JSON that `vitpose predict` writes."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import number, read_json
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.tracking import Tracker
from vitpose_jax.keypoints.skeletons import Skeleton


def read_keypoints(path: str | Path, skeleton: Skeleton) -> list[list[Person]]:
    """The people of every frame, from frame 0 on, with track numbers.

    The file is a list of COCO results, each with `frame` (or `image_id`, taken as the frame's
    number) and K x 3 `keypoints`; where an entry has no `track_id`, people are tracked anew.
    Coordinates that are not numbers count as missing.

    Raises:
        UserError: unreadable, of another form, of another skeleton, or of several videos.
    """
    path = Path(path)
    entries = _read(path)
    files = {str(entry.get("file_name")) for entry in entries}
    if len(files) > 1:
        names = ", ".join(sorted(files)[:3])
        raise UserError(f"{path}: holds {len(files)} videos ({names}); give a file of one")
    found: dict[int, list[Person]] = {}
    for index, entry in enumerate(entries):
        frame, person = _person(f"{path}: entry {index}", entry, skeleton)
        found.setdefault(frame, []).append(person)
    frames = [found.get(index, []) for index in range(max(found, default=-1) + 1)]
    if all(person.track is not None for people in frames for person in people):
        return frames
    tracker = Tracker(skeleton)
    return [tracker.update(people) for people in frames]


def _read(path: Path) -> list[dict[str, Any]]:
    entries = read_json(path)
    if isinstance(entries, dict):
        entries = entries.get("annotations")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: expected a list of COCO keypoint results")
    return entries


def _person(where: str, entry: dict[str, Any], skeleton: Skeleton) -> tuple[int, Person]:
    """(frame, person) of one entry."""
    frame = entry.get("frame", entry.get("image_id"))
    if not isinstance(frame, int) or isinstance(frame, bool) or not 0 <= frame < 10_000_000:
        raise UserError(f"{where} has no usable `frame` (a number from 0): {frame!r}")
    try:
        points = np.array(entry["keypoints"], np.float32).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: `keypoints` is not a list of x, y, score in turn") from None
    if len(points) != skeleton.num_keypoints:
        raise UserError(
            f"{where} has {len(points)} keypoints, the forecaster knows {skeleton.num_keypoints}"
        )
    good = np.isfinite(points).all(1)
    points = np.where(good[:, None], points, 0)
    score = entry.get("bbox_score")
    score = 1.0 if score is None else number(score)
    if score is None or not math.isfinite(score):
        raise UserError(f"{where}: `bbox_score` must be a finite number")
    track = entry.get("track_id")
    return frame, Person(
        points[:, :2],
        points[:, 2],
        _box(where, entry.get("bbox"), points),
        score,
        track if isinstance(track, int) else None,
    )


def _box(where: str, box: Any, points: np.ndarray) -> np.ndarray:
    """A box (4,) as it is given or, where that is unknown, around the points (K, 3) that are."""
    if box is not None:
        box = box if isinstance(box, list) else []
        sides = [math.nan if v is None else number(v) for v in box]
        if len(sides) != 4 or None in sides:
            raise UserError(f"{where}: `bbox` must be four numbers, x, y, width, height")
        if all(map(math.isfinite, sides)):
            return np.array(sides)
    seen = points[points[:, 2] > 0, :2] if (points[:, 2] > 0).any() else np.zeros((1, 2))
    return np.array([*seen.min(0), *np.ptp(seen, axis=0)], np.float64)
