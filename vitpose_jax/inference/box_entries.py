"""Parsing the entries of a box file, in whatever form their numbers, ids and names are."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitpose_jax.data.coco.ids import Id, ImageIds, plain_id
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import number
from vitpose_jax.files.names import spelling, tails
from vitpose_jax.inference.box_categories import PERSON_CATEGORY, category_of

Key = tuple[Id, int | None]
"""(file name, or image id if there is no name; frame of a video or None)."""


class FileBox(NamedTuple):
    """A box: x, y, width, height and score; its index in the file, from 0; its category id."""

    row: list[float]
    entry: int
    category: int


class BoxTable(Mapping[Key, list[FileBox]]):
    """Boxes by picture or frame, in little memory."""

    def __init__(self, boxes: Mapping[Key, Sequence[FileBox]]) -> None:
        every = [box for some in boxes.values() for box in some]
        self._places = {key: place for place, key in enumerate(boxes)}
        self._ends = np.cumsum([len(some) for some in boxes.values()])
        self._rows = np.array([box.row for box in every])
        self._entries = np.array([box.entry for box in every])
        self._categories = list(dict.fromkeys(box.category for box in every))
        codes = {category: code for code, category in enumerate(self._categories)}
        self._codes = np.array([codes[box.category] for box in every])

    def __getitem__(self, key: Key) -> list[FileBox]:
        place = self._places[key]
        region = slice(self._ends[place - 1] if place else 0, self._ends[place])
        rows, entries = self._rows[region].tolist(), self._entries[region].tolist()
        categories = (self._categories[code] for code in self._codes[region])
        return list(map(FileBox, rows, entries, categories))

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places


class BoxEntries:
    """All boxes of a file by picture, with their categories (not only people).

    Attributes:
        boxes: each with its category's id, or name if that has no id.
        ids: the file's own image ids, by picture or frame.
        names: categories' names, by id.
        counts: number of boxes by category.
        crowds: number of crowd regions.
        lost: boxes whose image is not listed in the file, in words.
    """

    def __init__(self, path: Path, images: list[dict[str, Any]], names: dict[Id, str]) -> None:
        self.boxes: dict[Key, list[tuple[FileBox, Id | None]]] = defaultdict(list)
        self.ids: dict[Key, Id] = {}
        self.names = dict(names)
        self.counts: Counter[Id | None] = Counter()
        self.crowds = 0
        self.lost: list[str] = []
        self._path, self._images, self._finder = path, images, ImageIds(images)

    def add(self, index: int, entry: Any) -> None:
        """Read an entry; raises UserError if something is wrong with it."""
        where = f"{self._path}: entry {index}"
        frame, row = _parse_entry(where, entry)
        label, name = category_of(where, entry)
        if label is not None and name is not None:
            self.names.setdefault(label, name)
        if entry.get("iscrowd") and _is_crowd(where, entry["iscrowd"]):
            self.crowds += 1
            return
        self.counts[label] += 1
        picture, own = self._identity(where, entry)
        if picture is None:
            self.lost.append(f"entry {index} ({own!r:.60})")
            return
        key = picture, frame
        if own is None or (own == picture and isinstance(own, int)):
            pass  # the id is the picture's name
        elif (known := self.ids.setdefault(key, own)) != own:
            raise UserError(f"{where}: image_id of {picture} is {own!r}, but {known!r} before")
        category = label if isinstance(label, int) else PERSON_CATEGORY
        self.boxes[key].append((FileBox(row, index, category), label))

    def _identity(self, where: str, entry: dict[str, Any]) -> tuple[Id | None, Id | None]:
        """(name, or id if there is no name; the file's own id) of an entry's picture."""
        name, own = entry.get("file_name") or None, entry.get("image_id")
        if self._images:
            row = self._finder.find(own)
            if row is None:
                return name, _own_id(own)
            file_name = self._images[row]["file_name"]
            if name is not None and tails(spelling(name))[-1:] != tails(spelling(file_name))[-1:]:
                raise UserError(
                    f"{where}: file_name is {name}, but image_id {own!r:.40} is {file_name}"
                )
            return file_name, self._images[row]["id"]
        return plain_id(own) if name is None else name, _own_id(own)


def _side(value: Any) -> int:
    """A picture's side in pixels; 0 if the file does not say."""
    pixels = plain_id(value)
    return pixels if isinstance(pixels, int) else 0


def _is_crowd(where: str, value: Any) -> bool:
    """Whether a box is a COCO crowd region."""
    text = str(value).lower()
    if text not in ("1", "1.0", "true", "0", "0.0", "false"):
        raise UserError(f"{where}: iscrowd must be 0 or 1, not {value!r:.40}")
    return text[0] in "1t"


def _own_id(value: Any) -> Id | None:
    """An image id as in the file, but with floats as integers; None if it is not an id."""
    plain = plain_id(value)
    return value if isinstance(value, str) and plain is not None else plain


def parse_box(where: str, value: Any) -> list[float]:
    """Parse a bbox (x, y, width, height; null becomes NaN); a UserError says where it is wrong."""
    sides = [math.nan if v is None else number(v) for v in value] if isinstance(value, list) else []
    box = [side for side in sides if side is not None]
    if len(box) != 4 or len(sides) != 4:
        raise UserError(f"{where}: bbox must be four numbers, x, y, width, height")
    return box


def parse_score(where: str, name: str, value: Any) -> float:
    """Parse the score in the field `name`; a UserError says where it is wrong."""
    score = number(value)
    if score is None or not math.isfinite(score):
        raise UserError(f"{where}: {name} must be a finite number, not {value!r:.40}")
    return score


def split_content(path: Path, content: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """The list of boxes, and the file's images, each with its normalised id as `file_id`."""
    if isinstance(content, list):
        return content, []
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise UserError(
            f'{path}: must be a list of detections, or an object with "annotations" (COCO\'s forms)'
        )
    images, seen = [], dict[Id, str]()
    for index, image in enumerate(content.get("images") or []):
        known = plain_id(image.get("id")) if isinstance(image, dict) else None
        if known is None or not isinstance(image.get("file_name"), str):
            raise UserError(
                f'{path}: "images" must be objects with id and file_name (a text); [{index}] is '
                f"{image!r:.60}"
            )
        if seen.setdefault(known, image["file_name"]) != image["file_name"]:
            raise UserError(
                f"{path}: images[{index}]: image id {known} is used twice, for "
                f"{seen[known]} and {image['file_name']}"
            )
        sides = {side: _side(image.get(side)) for side in ("width", "height")}
        images.append({**image, **sides, "id": _own_id(image["id"]), "file_id": known})
    return content["annotations"], images


def _parse_entry(where: str, entry: Any) -> tuple[int | None, list[float]]:
    """(frame; x, y, width, height and score) of one entry."""
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must be an object with image_id or file_name, and bbox")
    name, own = entry.get("file_name"), entry.get("image_id")
    if name and not isinstance(name, str):
        raise UserError(f"{where}: file_name must be a text, not {name!r:.40}")
    if not name and type(own) is not int and plain_id(own) is None:
        but = "" if own is None else f", but {own!r:.40}"
        raise UserError(
            f"{where}: has neither image_id (a whole number or a text) nor file_name (a text){but}"
        )
    box = parse_box(where, entry.get("bbox"))
    score = parse_score(where, "score", entry.get("score", 1.0))
    given = entry.get("frame")
    frame = None if given is None else plain_id(given)
    if isinstance(frame, str) or (frame is None and given is not None):
        raise UserError(f"{where}: frame must be a whole number, not {given!r:.40}")
    return frame, [*box, score]
