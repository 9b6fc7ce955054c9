"""People's boxes from a JSON file: COCO detections, COCO annotations, or our own results."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.inference.inputs import Source

PERSON_CATEGORY = 1

Key = tuple[str | int, int | None]
"""(file name or image id, frame of a video or None)."""


@dataclass(frozen=True)
class BoxFile:
    """Boxes by picture.

    Attributes:
        path: where they come from.
        boxes: float64 (N, 5) arrays of x, y, w, h, score, in the file's order.
        entries: the boxes' positions in the file, from 0.
        skipped: how many boxes of other categories and of crowds were left out.
    """

    path: Path
    boxes: Mapping[Key, np.ndarray]
    entries: Mapping[Key, list[int]]
    skipped: int = 0

    def key(self, source: Source, frame: int | None = None) -> Key | None:
        """How the file knows a picture, or a video's frame; None where it has no box for it.

        A picture is known by its name, any end of its path (val2017/1.jpg, 1.jpg), or its number
        (image_id).
        """
        parts = Path(source.location).parts
        ends = (Path(*parts[i:]).as_posix() for i in range(len(parts)))
        for name in (source.name, *ends, source.image_id):
            if (name, frame) in self.boxes:
                return name, frame
        return None

    def of(self, source: Source, frame: int | None = None) -> np.ndarray:
        """The boxes (N, 5) of a picture, or of a video's frame; (0, 5) where there are none."""
        key = self.key(source, frame)
        return np.zeros((0, 5)) if key is None else self.boxes[key]


def read_boxes(path: str | Path, any_category: bool = False) -> BoxFile:
    """Read boxes.

    Takes a list of detections ({"image_id" or "file_name", "bbox", and perhaps "score",
    "category_id", "frame"}), or an object with "annotations" and "images" as COCO's.

    Args:
        path: the file.
        any_category: keep all boxes, as for animals; else those of category 1 (person) and those
            without a category.

    Raises:
        UserError: a missing, empty or malformed file, or one that holds no boxes.
    """
    path = Path(path)
    entries, names = _entries(path, _read_json(path))
    grouped: dict[Key, list[list[float]]] = {}
    positions: dict[Key, list[int]] = {}
    skipped = 0
    for index, entry in enumerate(entries):
        key, row = _parse_entry(f"{path}: entry {index}", entry, names)
        if entry.get("iscrowd"):  # a region of COCO's annotations, no person
            skipped += 1
        elif any_category or entry.get("category_id", PERSON_CATEGORY) == PERSON_CATEGORY:
            grouped.setdefault(key, []).append(row)
            positions.setdefault(key, []).append(index)
        else:
            skipped += 1
    if not grouped:
        kind = "boxes of people" if skipped else "boxes"
        raise UserError(f"{path}: holds no {kind}, so that there is nothing to predict")
    boxes = {key: np.array(rows) for key, rows in grouped.items()}
    return BoxFile(path, boxes, positions, skipped)


def _read_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from None
    if not text.strip():
        raise UserError(f"{path}: is empty; a list of detections in JSON is expected")
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error})") from None


def _entries(path: Path, content: Any) -> tuple[list[Any], dict[Any, str]]:
    """The list of boxes, and the file names of image ids where the file tells them."""
    if isinstance(content, list):
        return content, {}
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        images = content.get("images", [])
        try:
            return content["annotations"], {i["id"]: i["file_name"] for i in images}
        except (TypeError, KeyError):
            raise UserError(f'{path}: "images" must be objects with id and file_name') from None
    raise UserError(
        f'{path}: must be a list of detections, or an object with "annotations" (COCO\'s forms)'
    )


def _parse_entry(where: str, entry: Any, names: dict[Any, str]) -> tuple[Key, list[float]]:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must be an object with image_id or file_name, and bbox")
    name = entry.get("file_name", entry.get("image_id"))
    name = names.get(name, name) if isinstance(name, int | str) else None
    if name is None:
        raise UserError(f"{where}: has neither image_id (a number) nor file_name")
    box, score, frame = entry.get("bbox"), entry.get("score", 1.0), entry.get("frame")
    box = [float("nan") if v is None else v for v in box] if isinstance(box, list) else None
    if box is None or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        raise UserError(f"{where}: bbox must be four numbers, x, y, width, height")
    if not isinstance(score, int | float):
        raise UserError(f"{where}: score must be a number, not {score!r}")
    if not (frame is None or isinstance(frame, int)):
        raise UserError(f"{where}: frame must be a whole number, not {frame!r}")
    return (name, frame), [float(v) for v in (*box, score)]
