"""People's boxes from a JSON file: COCO detections, COCO annotations, or our own results."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import number, read_json
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.person import Person, box_problem

PERSON_CATEGORY = 1
"""COCO's person; also the category of boxes without one. A file's `categories` may differ."""

Key = tuple[str | int | None, int | None]
"""(file name or image id, frame of a video or None)."""


class FileBox(NamedTuple):
    """A box: x, y, width, height and score; its position in the file, from 0; its category id."""

    row: list[float]
    entry: int
    category: int


@dataclass(frozen=True)
class BoxFile:
    """The boxes of a file, by picture and in the file's order.

    `skipped` is how many boxes of other categories and of crowds were left out.
    """

    path: Path
    boxes: Mapping[Key, Sequence[FileBox]]
    skipped: int = 0

    @cached_property
    def _names(self) -> dict[bool, set[str | int | None]]:
        """The file's names of pictures (False) and of videos (True)."""
        return {
            video: {name for name, frame in self.boxes if (frame is not None) == video}
            for video in (False, True)
        }

    def name_of(self, source: Source) -> str | int | None:
        """The file's name for a picture or video; None if it has no box for it.

        Names match by the source's own name, by any end of its path (val2017/1.jpg, 1.jpg), or by
        a picture's number (image_id).
        """
        parts = Path(source.location).parts
        ends = (Path(*parts[i:]).as_posix() for i in range(len(parts)))
        known = self._names[source.kind != "image"]
        return next((n for n in (source.name, *ends, source.image_id) if n in known), None)

    def of(self, source: Source, frame: int | None = None) -> Float64[np.ndarray, "boxes 5"]:
        """The boxes of a picture, or of a video's frame."""
        boxes = self.boxes.get((self.name_of(source), frame), ())
        return np.array([box.row for box in boxes]).reshape(-1, 5)

    def check(
        self, people: Sequence[Person], source: Source, frame: int | None, image_wh: tuple[int, int]
    ) -> tuple[list[Person], list[str]]:
        """The people found in the boxes of a picture, and what is wrong with these boxes.

        Returns:
            The people with the categories of their boxes, and a line for each box that shows
            nothing in an image of (width, height) pixels.
        """
        if not people:
            return [], []
        boxes = self.boxes[self.name_of(source), frame]
        problems = [
            f"{self.path}: entry {box.entry} ({source.name}): the box {problem}; its keypoints are "
            "all zero"
            for box in boxes
            if (problem := box_problem(np.array(box.row), image_wh)) is not None
        ]
        labelled = zip(people, boxes, strict=True)
        return [replace(person, category=box.category) for person, box in labelled], problems

    def notes(self, sources: Sequence[Source]) -> list[str]:
        """What the user may not expect: sources without boxes, shared names, boxes left out.

        Raises:
            UserError: no source has a box.
        """
        takers: dict[str | int | None, list[Source]] = {}
        for source in sources:
            takers.setdefault(self.name_of(source), []).append(source)
        unknown = takers.pop(None, [])
        if not takers:
            raise UserError(
                f"{self.path}: has no box for any of the {len(sources)} inputs; pictures are "
                "matched by file_name, or by image_id as the number in the file's name, videos by "
                "file_name, with the number of the frame as frame"
            )
        notes = []
        if videos := [source.name for source in unknown if source.kind != "image"]:
            notes.append(f"{self.path} has no box for {_listed(videos)}")
        if shared := {name: same for name, same in takers.items() if len(same) > 1}:
            name, same = next(iter(shared.items()))
            notes.append(
                f"{len(shared)} name(s) in {self.path} match several inputs, which get the same "
                f"boxes: {name} for {_listed([source.name for source in same])}"
            )
        if self.skipped:
            notes.append(f"{self.skipped} box(es) of other categories or crowds left out")
        return notes


def read_boxes(path: str | Path, any_category: bool = False) -> BoxFile:
    """Read boxes.

    The file is a list of detections ({"image_id" or "file_name", "bbox", and optionally "score",
    "category_id", "frame"}), or an object with "annotations" and "images" as COCO's.

    Args:
        path: the file.
        any_category: keep all boxes, as for animals; by default only those of people (category 1,
            unless the file's "categories" give "person" another id) and those without a category.

    Raises:
        UserError: a missing, empty or malformed file, or one without boxes.
    """
    path = Path(path)
    content = read_json(path)
    entries, names = _entries(path, content)
    person = _person_category(content)
    boxes: dict[Key, list[FileBox]] = defaultdict(list)
    others: Counter[int] = Counter()
    crowds = 0
    for index, entry in enumerate(entries):
        key, row, category = _parse_entry(f"{path}: entry {index}", entry, names, person)
        if entry.get("iscrowd"):  # a region of COCO's annotations, not one person
            crowds += 1
        elif any_category or category == person:
            boxes[key].append(FileBox(row, index, category))
        else:
            others[category] += 1
    if not boxes:
        seen = ", ".join(f"{count} of category_id {i}" for i, count in sorted(others.items()))
        what = f"boxes of people (category_id {person}), only {seen}" if others else "boxes"
        raise UserError(f"{path}: holds no {what}; there is nothing to predict")
    return BoxFile(path, dict(boxes), crowds + others.total())


def parse_box(where: str, value: Any) -> list[float]:
    """Parse a bbox (x, y, width, height, NaN for null), or raise a UserError that says where."""
    sides = [math.nan if v is None else number(v) for v in value] if isinstance(value, list) else []
    box = [side for side in sides if side is not None]
    if len(box) != 4 or len(sides) != 4:
        raise UserError(f"{where}: bbox must be four numbers, x, y, width, height")
    return box


def parse_score(where: str, name: str, value: Any) -> float:
    """Parse the score called `name`, or raise a UserError that says where."""
    score = number(value)
    if score is None or not math.isfinite(score):
        raise UserError(f"{where}: {name} must be a finite number, not {value!r:.40}")
    return score


def _listed(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _person_category(content: Any) -> int:
    """The id of the category called person, if the file has `categories`."""
    categories = content.get("categories") if isinstance(content, dict) else None
    for category in categories if isinstance(categories, list) else []:
        if isinstance(category, dict) and category.get("name") == "person":
            known = category.get("id")
            return known if isinstance(known, int) else PERSON_CATEGORY
    return PERSON_CATEGORY


def _entries(path: Path, content: Any) -> tuple[list[Any], dict[Any, str]]:
    """The list of boxes, and file names by image id if the file has them."""
    if isinstance(content, list):
        return content, {}
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        try:
            names = {image["id"]: image["file_name"] for image in content.get("images", [])}
        except (TypeError, KeyError):
            names = {None: None}
        if not all(isinstance(name, str) for name in names.values()):
            raise UserError(f'{path}: "images" must be objects with id and file_name (a text)')
        return content["annotations"], names
    raise UserError(
        f'{path}: must be a list of detections, or an object with "annotations" (COCO\'s forms)'
    )


def _parse_entry(
    where: str, entry: Any, names: dict[Any, str], person: int
) -> tuple[Key, list[float], int]:
    """(picture or frame; x, y, width, height and score; category) of one entry."""
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must be an object with image_id or file_name, and bbox")
    name = entry.get("file_name", entry.get("image_id"))
    name = names.get(name, name) if isinstance(name, int | str) else None
    if name is None:
        raise UserError(f"{where}: has neither image_id (a number) nor file_name")
    box = parse_box(where, entry.get("bbox"))
    score = parse_score(where, "score", entry.get("score", 1.0))
    frame = entry.get("frame")
    if not (frame is None or isinstance(frame, int)):
        raise UserError(f"{where}: frame must be a whole number, not {frame!r:.40}")
    category = entry.get("category_id", person)
    if not isinstance(category, int):
        raise UserError(f"{where}: category_id must be a whole number, not {category!r:.40}")
    return (name, frame), [*box, score], category
