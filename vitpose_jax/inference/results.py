"""Poses as COCO results, and as the journal's entries."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.data.coco.ids import Id
from vitpose_jax.files.writing import write_text
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.pipeline import Frame


def coco_result(
    person: Person,
    file_name: str,
    image_id: Id | None = None,
    frame: int | None = None,
    time: float | None = None,
) -> dict[str, Any]:
    r"""One entry of a COCO results file.

    `keypoints` are x, y, score of each keypoint in turn; `bbox` is the box as given. Numbers that
    are not finite are null. Pictures may have an `image_id`; frames of videos have `frame` (from
    0), `time` (seconds from the first frame) and `track_id`. Bytes of a file name that are not
    UTF-8 are escaped (`\xe9`).
    """
    points = np.column_stack([person.keypoints, person.keypoint_scores])
    result: dict[str, Any] = {"file_name": name_in_json(file_name)}
    if image_id is not None:
        result["image_id"] = image_id
    if frame is not None:
        result["frame"] = frame
    if time is not None:
        result["time"] = round(time, 6)
    result["category_id"] = person.category
    result["bbox"] = [_finite(v) for v in person.box]
    result["keypoints"] = [_finite(v, 4) for v in points.ravel()]
    result["score"] = _finite(person.score, 6)
    result["bbox_score"] = _finite(person.box_score)
    if person.track is not None:
        result["track_id"] = person.track
    return result


def name_in_json(name: str) -> str:
    r"""A file name as valid JSON text; bytes that are not UTF-8 are escaped (`\xe9`)."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _finite(value: float, digits: int | None = None) -> float | None:
    value = float(value)
    if not math.isfinite(value):
        return None
    return value if digits is None else round(value, digits)


def result_rows(frame: Frame) -> list[str]:
    """The COCO results of a frame's people, as JSON."""
    name, number = frame.identity or (frame.source.name, frame.source.image_id)
    return [
        json.dumps(coco_result(person, name, number, frame.index, frame.time), allow_nan=False)
        for person in frame.people
    ]


def entry_head(frame: Frame) -> dict[str, Any]:
    """What else the journal says about a picture or frame, see `journal`."""
    head: dict[str, Any] = {frame.source.kind: name_in_json(frame.source.name)}
    if frame.index is not None and frame.time is not None:
        head |= {"frame": frame.index, "time": round(frame.time, 6)}
    if frame.error is None:
        head["size"] = frame.image_wh
    if frame.restart:
        head["restart"] = True
    if frame.problems:
        head["problems"] = [*frame.problems]
    if frame.error is not None:
        head["error"] = str(frame.error)
    return head


def write_results(path: str | Path, results: Iterable[dict[str, Any]]) -> None:
    """Write entries as a JSON list, one per line, replacing an older file only when complete.

    Raises:
        UserError: the file cannot be written.
    """
    lines = ",\n".join(json.dumps(result, allow_nan=False) for result in results)
    write_text(path, f"[\n{lines}\n]\n" if lines else "[]\n")
