"""People's boxes from a JSON file: COCO detections, COCO annotations, or our own results."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import number, read_json
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.person import Person, box_problem

PERSON_CATEGORY = 1
"""COCO's, which a box without a category is of; a file's own `categories` may say another."""

Key = tuple[str | int | None, int | None]
"""(file name or image id, frame of a video or None)."""


@dataclass(frozen=True)
class BoxFile:
    """Boxes by picture.

    Attributes:
        path: where they come from.
        boxes: float64 (N, 5) arrays of x, y, w, h, score, in the file's order.
        entries: the boxes' positions in the file, from 0.
        categories: the boxes' category ids.
        skipped: how many boxes of other categories and of crowds were left out.
    """

    path: Path
    boxes: Mapping[Key, np.ndarray]
    entries: Mapping[Key, list[int]]
    categories: Mapping[Key, list[int]]
    skipped: int = 0

    @cached_property
    def _names(self) -> dict[bool, set[str | int]]:
        """What it calls pictures (False) and videos (True)."""
        return {
            video: {name for name, frame in self.boxes if (frame is not None) == video}
            for video in (False, True)
        }

    def name_of(self, source: Source) -> str | int | None:
        """How the file knows a picture or video; None where it has no box for it.

        That is by its name, any end of its path (val2017/1.jpg, 1.jpg), or a picture's number
        (image_id).
        """
        parts = Path(source.location).parts
        ends = (Path(*parts[i:]).as_posix() for i in range(len(parts)))
        known = self._names[source.kind != "image"]
        return next((n for n in (source.name, *ends, source.image_id) if n in known), None)

    def of(self, source: Source, frame: int | None = None) -> np.ndarray:
        """The boxes (N, 5) of a picture, or of a video's frame; (0, 5) where there are none."""
        return self.boxes.get((self.name_of(source), frame), np.zeros((0, 5)))

    def check(
        self,
        people: Sequence[Person],
        source: Source,
        frame: int | None,
        image_wh: tuple[int, int],
    ) -> tuple[list[Person], list[str]]:
        """The people found in the boxes of a picture, and what is wrong with these boxes.

        Returns:
            The people with the categories of their boxes, and a line for each box that shows
            nothing in an image of (width, height) pixels.
        """
        if not people:
            return [], []
        key = self.name_of(source), frame
        labelled, problems = [], []
        boxes = zip(self.categories[key], self.entries[key], strict=True)
        for person, (category, entry) in zip(people, boxes, strict=True):
            labelled.append(replace(person, category=category))
            problem = box_problem(person.box, image_wh)
            if problem is not None:
                problems.append(
                    f"{self.path}: entry {entry} ({source.name}): the box {problem}; its keypoints "
                    "are all zero"
                )
        return labelled, problems

    def notes(self, sources: list[Source]) -> list[str]:
        """What a user should know who thinks that every source has its boxes here.

        Raises:
            UserError: none of them has.
        """
        takers: dict[str | int | None, list[Source]] = {}
        for source in sources:
            takers.setdefault(self.name_of(source), []).append(source)
        unknown = takers.pop(None, [])
        if not takers:
            raise UserError(
                f"{self.path}: has no box for any of the {len(sources)} inputs; a picture is found "
                "by file_name, or by image_id where that number is its file's name, a video by "
                "file_name, with the number of the frame as frame"
            )
        notes = []
        if videos := [source.name for source in unknown if source.kind != "image"]:
            notes.append(f"{self.path} has no box for {_listed(videos)}")
        if shared := {name: same for name, same in takers.items() if len(same) > 1}:
            name, same = next(iter(shared.items()))
            notes.append(
                f"{len(shared)} name(s) in {self.path} stand for several inputs, which get the "
                f"same boxes: {name} for {_listed([source.name for source in same])}"
            )
        if self.skipped:
            notes.append(f"{self.skipped} box(es) of other categories or crowds left out")
        return notes


def read_boxes(path: str | Path, any_category: bool = False) -> BoxFile:
    """Read boxes.

    Takes a list of detections ({"image_id" or "file_name", "bbox", and perhaps "score",
    "category_id", "frame"}), or an object with "annotations" and "images" as COCO's.

    Args:
        path: the file.
        any_category: keep all boxes, as for animals; else those of people (category 1, unless the
            file's "categories" give "person" another id) and those without a category.

    Raises:
        UserError: a missing, empty or malformed file, or one that holds no boxes.
    """
    path = Path(path)
    content = read_json(path)
    entries, names = _entries(path, content)
    person = _person_category(content)
    grouped: dict[Key, list[list[float]]] = {}
    positions: dict[Key, list[int]] = {}
    categories: dict[Key, list[int]] = {}
    others: Counter[int] = Counter()
    crowds = 0
    for index, entry in enumerate(entries):
        key, row, category = _parse_entry(f"{path}: entry {index}", entry, names, person)
        if entry.get("iscrowd"):  # a region of COCO's annotations, no person
            crowds += 1
        elif any_category or category == person:
            grouped.setdefault(key, []).append(row)
            positions.setdefault(key, []).append(index)
            categories.setdefault(key, []).append(category)
        else:
            others[category] += 1
    if not grouped:
        seen = ", ".join(f"{count} of category_id {i}" for i, count in sorted(others.items()))
        what = f"boxes of people (category_id {person}), only {seen}" if others else "boxes"
        raise UserError(f"{path}: holds no {what}, so that there is nothing to predict")
    boxes = {key: np.array(rows) for key, rows in grouped.items()}
    return BoxFile(path, boxes, positions, categories, crowds + others.total())


def _listed(names: list[str]) -> str:
    """The first three of some names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _person_category(content: Any) -> int:
    """The id of the category called person, where the file has `categories`."""
    categories = content.get("categories") if isinstance(content, dict) else None
    for category in categories if isinstance(categories, list) else []:
        if isinstance(category, dict) and category.get("name") == "person":
            known = category.get("id")
            return known if isinstance(known, int) else PERSON_CATEGORY
    return PERSON_CATEGORY


def _entries(path: Path, content: Any) -> tuple[list[Any], dict[Any, str]]:
    """The list of boxes, and the file names of image ids where the file tells them."""
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
    """(what it is on, x, y, w, h and score, category) of one entry."""
    if not isinstance(entry, dict):
        raise UserError(f"{where}: must be an object with image_id or file_name, and bbox")
    name = entry.get("file_name", entry.get("image_id"))
    name = names.get(name, name) if isinstance(name, int | str) else None
    if name is None:
        raise UserError(f"{where}: has neither image_id (a number) nor file_name")
    box, frame = entry.get("bbox"), entry.get("frame")
    box = [math.nan if v is None else number(v) for v in box] if isinstance(box, list) else []
    if len(box) != 4 or None in box:
        raise UserError(f"{where}: bbox must be four numbers, x, y, width, height")
    score = number(entry.get("score", 1.0))
    if score is None or not math.isfinite(score):
        raise UserError(f"{where}: score must be a finite number, not {entry['score']!r:.40}")
    if not (frame is None or isinstance(frame, int)):
        raise UserError(f"{where}: frame must be a whole number, not {frame!r:.40}")
    category = entry.get("category_id", person)
    if not isinstance(category, int):
        raise UserError(f"{where}: category_id must be a whole number, not {category!r}")
    return (name, frame), [*box, score], category
