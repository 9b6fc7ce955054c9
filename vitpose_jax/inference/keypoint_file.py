"""Reading the keypoints of a video from the JSON that `vitpose predict` writes, or its journal."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.data.coco.ids import plain_id
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.inference.box_entries import parse_box, parse_score
from vitpose_jax.inference.journal import read_journal
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.tracking import Tracker
from vitpose_jax.keypoints.skeletons import Skeleton

MAX_FRAME = 10_000_000
"""Larger numbers are errors, or ids of something else."""


def read_keypoints(
    path: str | Path, skeleton: Skeleton, fps: float | None, default_fps: float
) -> tuple[list[list[Person]], np.ndarray]:
    """The people of every frame, from frame 0 on, with track numbers, and the frames' times.

    The file is a list of COCO results, each with `frame` (or `image_id`, taken as the frame's
    number) and K x 3 `keypoints`. If any entry lacks `track_id`, people are tracked again.
    Coordinates that are not numbers count as missing.

    Args:
        path: the file.
        skeleton: the skeleton of the keypoints.
        fps: frames per second; by default the frames' times are the entries' `time`.
        default_fps: frames per second if entries have no `time`.

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
    times = None if fps else _frame_times(Path(path), entries, len(frames))
    if times is None:
        times = np.arange(len(frames)) / (fps or default_fps)
    for index, people in enumerate(frames):
        twice = Counter(p.track for p in people if p.track is not None).most_common(1)
        if twice and twice[0][1] > 1:
            raise UserError(
                f"{path}: frame {index} has track_id {twice[0][0]} twice; give every person of a "
                "frame a number of their own, or leave track_id out"
            )
    if all(person.track is not None for people in frames for person in people):
        return frames, times
    tracker = Tracker(skeleton)
    return [tracker.update(*frame) for frame in zip(frames, times.tolist(), strict=True)], times


def journal_people(path: Path, skeleton: Skeleton) -> tuple[list[list[Person]], np.ndarray]:
    """The people of every frame of the video that a journal is of, and the frames' times.

    Raises:
        UserError: the journal cannot be read.
    """
    frames, times = list[list[Person]](), list[float]()
    for entry in read_journal(path)[1]:
        if "time" in entry.head:
            rows = map(json.loads, entry.rows)
            frames.append([_parse_entry(str(path), row, skeleton)[1] for row in rows])
            times.append(entry.head["time"])
    return frames, np.array(times)


def _frame_times(path: Path, entries: list[dict[str, Any]], count: int) -> np.ndarray | None:
    """Seconds (count,) from the entries' `time`, interpolated in between; None if it is absent."""
    known = {plain_id(e.get("frame", e.get("image_id", 0))): e.get("time") for e in entries}
    if len(known) < 2 or None in known.values():
        return None
    frames = sorted(frame for frame in known if isinstance(frame, int))
    try:
        times = np.array([known[frame] for frame in frames], np.float64)
    except (TypeError, ValueError):
        times = np.array([math.nan])
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise UserError(
            f"{path}: `time` must be seconds that increase with the frame; correct it, or give "
            "--fps N for a steady rate"
        )
    missing = np.arange(count)
    filled = np.interp(missing, frames, times)
    # Before the first known frame, use the rate just after it.
    early = missing < frames[0]
    pace = (times[1] - times[0]) / (frames[1] - frames[0])
    filled[early] = times[0] - (frames[0] - missing[early]) * pace
    return filled


def _read_entries(path: Path) -> list[dict[str, Any]]:
    entries = read_json(path)
    if isinstance(entries, dict):
        entries = entries.get("annotations")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: expected a list of COCO keypoint results")
    return entries


def _parse_entry(where: str, entry: dict[str, Any], skeleton: Skeleton) -> tuple[int, Person]:
    """(frame, person) of one entry."""
    given = entry.get("frame", entry.get("image_id"))
    frame, track = plain_id(given), plain_id(entry.get("track_id"))
    if not isinstance(frame, int) or not 0 <= frame < MAX_FRAME:
        raise UserError(f"{where} has no usable `frame` (a number from 0): {given!r:.40}")
    if not isinstance(track, int) and entry.get("track_id") is not None:
        raise UserError(
            f"{where}: track_id must be a whole number, not {entry['track_id']!r:.40}; leave it "
            "out to have people tracked again"
        )
    try:
        with np.errstate(over="ignore"):  # then infinite, and missing
            points = np.array(entry["keypoints"], np.float32).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: `keypoints` is not a list of x, y, score in turn") from None
    if len(points) != skeleton.num_keypoints:
        raise UserError(
            f"{where} has {len(points)} keypoints, the forecaster knows {skeleton.num_keypoints}"
        )
    points[~np.isfinite(points).all(axis=1)] = 0
    box, score = entry.get("bbox"), entry.get("bbox_score")
    sides = [math.nan] if box is None else parse_box(where, box)
    return frame, Person(
        points[:, :2],
        points[:, 2],
        np.array(sides) if all(map(math.isfinite, sides)) else _enclosing_box(points),
        1.0 if score is None else parse_score(where, "bbox_score", score),
        track if isinstance(track, int) else None,
    )


def _enclosing_box(points: np.ndarray) -> np.ndarray:
    """The box (4,) around those of the points (K, 3) that were found."""
    seen = points[points[:, 2] > 0, :2] if (points[:, 2] > 0).any() else np.zeros((1, 2))
    return np.array([*seen.min(0), *np.ptp(seen, axis=0)], np.float64)
