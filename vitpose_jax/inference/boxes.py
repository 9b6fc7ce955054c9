"""People's boxes from a JSON file: COCO detections, COCO annotations, or our own results."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vitpose_jax.data.coco.ids import Id
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.files.names import nearest
from vitpose_jax.inference.box_categories import (
    PERSON_CATEGORY,
    describe,
    named_categories,
    people_categories,
)
from vitpose_jax.inference.box_entries import (
    BoxEntries,
    BoxTable,
    FileBox,
    Key,
    split_content,
)
from vitpose_jax.inference.box_names import PictureNames
from vitpose_jax.inference.inputs import Source
from vitpose_jax.inference.person import Person, box_problem


@dataclass(frozen=True)
class BoxFile:
    """The boxes of a file, by picture and in the file's order.

    Attributes:
        path: the file.
        boxes: by picture or frame.
        ids: the file's own image ids, by picture or frame, where they differ from its key.
        pictures: names of all pictures in the file, even without a box of a person.
        sizes: (width, height) that the file gives, by picture.
        skipped: number of boxes of other categories and of crowds.
        left_out: what the skipped boxes are, in words, if any.
        lost: a line about boxes whose image is not listed in the file, if any.
    """

    path: Path
    boxes: Mapping[Key, Sequence[FileBox]]
    ids: Mapping[Key, Id] = field(default_factory=dict)
    pictures: Set[Id] = frozenset()
    sizes: Mapping[Id, tuple[int, int]] = field(default_factory=dict)
    skipped: int = 0
    left_out: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @cached_property
    def _names(self) -> dict[bool, PictureNames]:
        """The file's names of pictures (False) and of videos (True)."""
        pictures = {name for name, frame in self.boxes if frame is None} | self.pictures
        videos = {name for name, frame in self.boxes if frame is not None}
        return {False: PictureNames(pictures), True: PictureNames(videos)}

    def name_of(self, source: Source) -> Id | None:
        """The file's name for a picture or video; None if it is not in the file."""
        return self._names[source.kind != "image"].find(source)

    def of(self, source: Source, frame: int | None = None) -> Float64[np.ndarray, "boxes 5"]:
        """The boxes of a picture, or of a video's frame."""
        name = self.name_of(source)
        boxes = () if name is None else self.boxes.get((name, frame), ())
        return np.array([box.row for box in boxes]).reshape(-1, 5)

    def identity(self, source: Source, frame: int | None = None) -> tuple[str, Id | None]:
        """(file name, image id) of a picture or frame, from the file if it has them."""
        name = self.name_of(source)
        own = name if isinstance(name, int) else source.image_id
        known = own if name is None else self.ids.get((name, frame), own)
        # A string may be an id rather than a name.
        named = isinstance(name, str) and name != known
        return str(name) if named else source.name, known

    def check(
        self, people: Sequence[Person], source: Source, frame: int | None, image_wh: tuple[int, int]
    ) -> tuple[list[Person], list[str]]:
        """Add categories to the people found in a picture, and check its boxes.

        Returns:
            The people with the categories of their boxes, and a line for each box that shows no
            part of an image of this (width, height).
        """
        name = self.name_of(source)
        if not people or name is None:
            return [], []
        boxes = self.boxes[name, frame]
        problems = [
            f"{self.path}: entry {box.entry} ({source.name}): the box {problem}; its keypoints are "
            "all zero"
            for box in boxes
            if (problem := box_problem(np.array(box.row), image_wh)) is not None
        ]
        labelled = zip(people, boxes, strict=True)
        return [replace(person, category=box.category) for person, box in labelled], problems

    def beyond(self, source: Source, frames: int) -> tuple[str, ...]:
        """A line about boxes for frames beyond the end of a video with `frames` frames, if any."""
        name = self.name_of(source)
        lost = [
            (frame, len(boxes))
            for (key, frame), boxes in self.boxes.items()
            if key == name and frame is not None and not 0 <= frame < frames
        ]
        if not lost:
            return ()
        return (
            f"{self.path}: {sum(n for _, n in lost)} box(es) are for frames that {source.name} "
            f"does not have, for instance {lost[0][0]}: its {frames} frames count from 0",
        )

    def notes(self, sources: Sequence[Source]) -> list[str]:
        """What the user may not expect: sources without boxes, shared names, skipped boxes.

        Raises:
            UserError: no source has a box.
        """
        for is_video, names in self._names.items():
            names.settle([source for source in sources if (source.kind != "image") == is_video])
        takers: dict[Id | None, list[Source]] = {}
        for source in sources:
            takers.setdefault(self.name_of(source), []).append(source)
        unknown = takers.pop(None, [])
        rest = {name: 0 for name, _ in self.boxes if name not in takers}
        for (known, _), boxes in self.boxes.items():
            if known in rest:
                rest[known] += len(boxes)
        if not takers.keys() & {name for name, _ in self.boxes}:
            asked = self._asked(unknown[0], rest) if unknown else sources[0].name
            raise UserError(
                f"{self.path}: has no box for any of the {len(sources)} inputs (such as {asked}), "
                f"only for {_listed([*map(str, rest)])}; pictures are matched by file_name, or by "
                "image_id as the number in the file name; videos by file_name, with the frame's "
                "number as frame"
            )
        notes = []
        for kind, some in (
            ("picture(s)", [source for source in unknown if source.kind == "image"]),
            ("video(s)", [source for source in unknown if source.kind != "image"]),
        ):
            if some:
                asked = _listed([self._asked(source, rest) for source in some[:3]], len(some))
                notes.append(f"{self.path} has no box for {len(some)} {kind}: {asked}")
        if rest:
            notes.append(
                f"{sum(rest.values())} box(es) in {self.path} are of {len(rest)} picture(s) or "
                f"video(s) not among the inputs: {_listed([*map(str, rest)])}"
            )
        if shared := {name: same for name, same in takers.items() if len(same) > 1}:
            name, same = next(iter(shared.items()))
            notes.append(
                f"{len(shared)} name(s) in {self.path} match several inputs, which get the same "
                f"boxes: {name} for {_listed([source.name for source in same])}"
            )
        return [*notes, *self.left_out]

    def _asked(self, source: Source, rest: Collection[Id]) -> str:
        """A source's name, and a hint at which unmatched name in the file it may have."""
        is_video = source.kind != "image"
        if self._names[not is_video].find(source) is not None:
            return f"{source.name}, whose boxes have {'no' if is_video else 'a'} frame"
        several = self._names[is_video].similar(source)
        if several:
            return f"{source.name}, which could be {' or '.join(several[:2])}"
        close = nearest(source.name, [name for name in rest if isinstance(name, str)])
        return source.name if close is None else f"{source.name} (is it {close}?)"


def read_boxes(
    path: str | Path, any_category: bool = False, categories: Sequence[str] = ()
) -> BoxFile:
    """Read boxes.

    The file is a list of detections ({"image_id" or "file_name", "bbox", and optionally "score",
    "category_id", "frame"}), or an object with "annotations" and "images" in COCO's format.

    Args:
        path: the file.
        any_category: keep all boxes, for instance of animals, unless `categories` are given.
        categories: names or ids of the categories that are people. The default is categories with
            the name of a person (COCO's person if there are only numbers), and boxes without a
            category.

    Raises:
        UserError: a missing, empty or malformed file, or one without boxes.
    """
    path = Path(path)
    content = read_json(path)
    entries, images = split_content(path, content)
    read = BoxEntries(path, images, named_categories(content, str(path)))
    for index, entry in enumerate(entries):
        read.add(index, entry)
    if not read.boxes:
        what = f"boxes of its own images; unknown is {read.lost[0]}" if read.lost else "boxes"
        raise UserError(f"{path}: holds no {what}; there is nothing to predict")
    people: Set[Id | None] = set(read.counts)
    if categories or not any_category:
        people = people_categories(str(path), read.counts, read.names, categories)
    boxes = {
        key: kept
        for key, some in read.boxes.items()
        if (kept := [box for box, label in some if label in people])
    }
    if not boxes:
        raise UserError(f"{path}: holds no boxes of people on its own images")
    others = Counter({label: n for label, n in read.counts.items() if label not in people})
    left_out = [describe(others, read.names)] if others else []
    left_out += [f"{read.crowds} of crowds"] if read.crowds else []
    if left_out:
        left_out = [f"left out of {path}: {', '.join(left_out)}"]
    if others and not read.names and not categories:
        left_out[0] += f" ({PERSON_CATEGORY} is taken as people, as in COCO; --category changes it)"
    lost = [
        f"{path}: {len(read.lost)} box(es) left out, whose image_id is not among its images: "
        f"{_listed(read.lost)}"
    ]
    pictures = {name for name, frame in read.boxes if frame is None}
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in images}
    return BoxFile(
        path,
        BoxTable(boxes),
        read.ids,
        pictures | set(sizes),
        {n: (w, h) for n, (w, h) in sizes.items() if w and h},
        read.crowds + others.total(),
        tuple(left_out),
        tuple(lost) if read.lost else (),
    )


def _listed(names: list[str], total: int = 0) -> str:
    """The first three names, and how many more there are."""
    more = (total or len(names)) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
