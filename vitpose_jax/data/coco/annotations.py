"""Reading COCO keypoint annotations, and checking them.

What training would not notice by itself (people without a labelled keypoint, boxes off their image,
counts that contradict each other) is counted here and told in words; what has the wrong type is
named and left out.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from etils import epath

from vitpose_jax.data.coco.categories import keypoint_categories, skeleton_from_category
from vitpose_jax.data.people import People
from vitpose_jax.data.tolerance import MAX_BAD_SHARE, too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.keypoints.crops import clean_box
from vitpose_jax.keypoints.skeletons import Skeleton

log = logging.getLogger(__name__)

# Each is one sentence part of the report: "<count> <words>". The first group is usual in COCO.
CROWD = "crowd regions"
UNLABELLED = "people without a labelled keypoint"
OTHER_CATEGORY = "annotations of other categories"
OFF_IMAGE = "boxes that are empty or off their image"
MALFORMED = "malformed annotations"
REPEATED_ID = "annotations whose id was used before"
WRONG_COUNT = "annotations whose num_keypoints contradicts their visibility flags"
POINTS_OFF_IMAGE = "people with a labelled keypoint outside the image"
POINTS_OFF_BOX = "people with no labelled keypoint anywhere near their box"
NO_AREA = "people without an area, for whom their box's is taken (objects' are about half of it)"
SAME_PERSON = "annotations that repeat another one's keypoints on the same image"
_USUAL = (CROWD, UNLABELLED, OTHER_CATEGORY)
_LEFT_OUT = (CROWD, UNLABELLED, OTHER_CATEGORY, OFF_IMAGE, MALFORMED, REPEATED_ID, POINTS_OFF_BOX)


@dataclass
class AnnotationReport:
    """What the check found: for every kind of finding, one line per annotation concerned."""

    source: str
    num_annotations: int = 0
    num_used: int = 0
    num_images: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Note one finding of a kind (a constant of this module) at `where`."""
        self.findings.setdefault(kind, []).append(where)

    def count(self, kind: str) -> int:
        """How many findings of a kind there are."""
        return len(self.findings.get(kind, ()))

    def summary(self) -> str:
        """The report in words, on a few lines; unusual findings are named with examples."""
        lines = [
            f"{self.source}: {self.num_used} of {self.num_annotations} annotations "
            f"on {self.num_images} images are used."
        ]
        for verb, kinds in (("left out", True), ("kept", False)):
            for kind, where in self.findings.items():
                if (kind in _LEFT_OUT) == kinds:
                    example = "" if kind in _USUAL else f", for instance {'; '.join(where[:3])}"
                    lines.append(f"  {verb}: {len(where)} {kind}{example}")
        return "\n".join(lines)

    def log(self) -> None:
        """One message: a warning where anything unusual was found."""
        unusual = any(kind not in _USUAL for kind in self.findings)
        log.log(logging.WARNING if unusual else logging.INFO, "%s", self.summary())


@dataclass(frozen=True)
class Annotations:
    """A checked annotation file.

    Attributes:
        skeleton: what is annotated.
        people: those that can be trained and evaluated on (boxes cleaned); `image_row` counts
            along `file_names`.
        file_names: M names of image files, relative to the split's folder.
        coco: the file's own dict without malformed annotations and with `iscrowd`, `num_keypoints`
            and `area` filled in; the evaluation needs crowds and people without keypoints.
        report: what was found.
    """

    skeleton: Skeleton
    people: People
    file_names: tuple[str, ...]
    coco: dict[str, Any]
    report: AnnotationReport


def read_annotations(path: epath.PathLike, *, max_bad_share: float = MAX_BAD_SHARE) -> Annotations:
    """Read and check a `person_keypoints_*.json` file, or one of the same layout.

    People are those the original trains and evaluates on: no crowd regions, at least one labelled
    keypoint, a box with something left after cleaning, and an area above 0 where one is given.

    Args:
        path: the JSON file; may be on `gs://`.
        max_bad_share: the largest share of malformed annotations to put up with (see `tolerance`).

    Raises:
        UserError: not a COCO keypoint file, an image's `file_name` that leaves its folder, more
            malformed annotations than `max_bad_share`, or nobody left.
    """
    coco = read_json(path)
    _check_top_level(coco, path)
    categories = keypoint_categories(coco["categories"], str(path))
    skeleton = skeleton_from_category(categories[0], str(path))
    category_ids = frozenset(c["id"] for c in categories if isinstance(c.get("id"), int))
    images = _read_images(coco["images"], path)
    rows = {image_id: row for row, image_id in enumerate(images)}
    report = AnnotationReport(str(path), len(coco["annotations"]), num_images=len(images))

    checked, kept, seen_ids, seen_people = [], [], set(), set()
    for index, annotation in enumerate(coco["annotations"]):
        where = f"annotations[{index}]"
        problem = _type_problem(annotation, rows, skeleton.num_keypoints, category_ids)
        if problem:
            report.add(MALFORMED, f"{where}: {problem}")
            continue
        where = f"id {annotation['id']}"
        if annotation["id"] in seen_ids:
            report.add(REPEATED_ID, where)
            continue
        seen_ids.add(annotation["id"])
        checked.append(annotation)
        if annotation["category_id"] not in category_ids:
            report.add(OTHER_CATEGORY, where)
            continue
        has_area = _fill_in(annotation)
        fate = _why_not_used(annotation, images[annotation["image_id"]])
        if fate:
            report.add(fate, where)
            continue
        if not has_area:
            report.add(NO_AREA, where)
        _note_oddities(annotation, images[annotation["image_id"]], where, seen_people, report)
        kept.append(annotation)

    report.num_used = len(kept)
    _refuse_the_hopeless(report, path, max_bad_share)
    people = _tabulate(kept, images, rows, skeleton.num_keypoints)
    report.log()
    names = tuple(image["file_name"] for image in images.values())
    return Annotations(skeleton, people, names, {**coco, "annotations": checked}, report)


def _check_top_level(coco: Any, path: epath.PathLike) -> None:
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco, Mapping) or not isinstance(coco.get(key), list):
            raise UserError(
                f"{path} is not a COCO keypoint file: it has no list '{key}' "
                "(the file to give is annotations/person_keypoints_*.json)"
            )


def _read_images(entries: Sequence[Any], path: epath.PathLike) -> dict[int, Mapping[str, Any]]:
    images: dict[int, Mapping[str, Any]] = {}
    for index, image in enumerate(entries):
        where = f"{path}: images[{index}]"
        if not isinstance(image, Mapping):
            raise UserError(f"{where} is not an object")
        for key, kind in (("id", int), ("file_name", str), ("width", int), ("height", int)):
            if not isinstance(image.get(key), kind) or isinstance(image.get(key), bool):
                raise UserError(f"{where}: '{key}' must be {kind.__name__}, is {image.get(key)!r}")
        if min(image["width"], image["height"]) < 1:
            raise UserError(f"{where}: size {image['width']}x{image['height']} is not possible")
        check_file_name(image["file_name"], where)
        if image["id"] in images:
            raise UserError(f"{where}: image id {image['id']} is used twice")
        images[image["id"]] = image
    return images


def check_file_name(name: str, where: str) -> None:
    """Refuse a file name that could lead out of its folder.

    Raises:
        UserError: empty, absolute, with a drive or scheme, or with a `..` in it.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in name or "\0" in name:
        raise UserError(f"{where}: file_name {name!r} leads out of the images' folder; refused")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _type_problem(
    annotation: Any,
    image_rows: Mapping[int, int],
    num_keypoints: int,
    category_ids: frozenset[int],
) -> str | None:
    """What is wrong with an annotation's fields, in words; None where they can be used."""
    if not isinstance(annotation, Mapping):
        return f"is {type(annotation).__name__}, not an object"
    for key in ("id", "image_id", "category_id"):
        if not isinstance(annotation.get(key), int) or isinstance(annotation.get(key), bool):
            return f"'{key}' must be an integer, is {annotation.get(key)!r}"
    if annotation["image_id"] not in image_rows:
        return f"image_id {annotation['image_id']} is not among the images"
    if annotation["category_id"] not in category_ids:
        return None
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"'bbox' must be four numbers (x, y, width, height), is {_short(box)}"
    values = annotation.get("keypoints")
    if not isinstance(values, list) or len(values) != 3 * num_keypoints:
        count = f"{len(values)} values" if isinstance(values, list) else _short(values)
        return f"'keypoints' must be {3 * num_keypoints} numbers, is {count}"
    if not all(map(_is_number, values)):
        return "'keypoints' holds something that is not a finite number"
    if any(flag not in (0, 1, 2) for flag in values[2::3]):
        return "a visibility flag in 'keypoints' is not 0, 1 or 2"
    if not _is_number(annotation.get("area", 1.0)):
        return f"'area' must be a number, is {_short(annotation['area'])}"
    if annotation.get("iscrowd", 0) not in (0, 1):
        return f"'iscrowd' must be 0 or 1, is {_short(annotation['iscrowd'])}"
    if not isinstance(annotation.get("num_keypoints", 0), int):
        return f"'num_keypoints' must be an integer, is {_short(annotation['num_keypoints'])}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fill_in(annotation: dict[str, Any]) -> bool:
    """Add what the evaluation needs and the file may leave out; whether an area was given."""
    has_area = "area" in annotation
    _, _, width, height = annotation["bbox"]
    annotation.setdefault("iscrowd", 0)
    annotation.setdefault("num_keypoints", sum(flag > 0 for flag in annotation["keypoints"][2::3]))
    annotation.setdefault("area", width * height)
    return has_area


def _why_not_used(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> str | None:
    """The finding for which a well-formed annotation is left out; None where it is used."""
    if annotation["iscrowd"]:
        return CROWD
    if not any(annotation["keypoints"][2::3]) or annotation["num_keypoints"] == 0:
        return UNLABELLED
    x, y, w, h = annotation["bbox"]
    low_x, low_y = max(0, x), max(0, y)
    high_x = min(image["width"] - 1, low_x + max(0, w - 1))
    high_y = min(image["height"] - 1, low_y + max(0, h - 1))
    if high_x <= low_x or high_y <= low_y or annotation["area"] <= 0:
        return OFF_IMAGE
    if not _any_point_near(annotation):
        return POINTS_OFF_BOX
    return None


def _any_point_near(annotation: Mapping[str, Any]) -> bool:
    """Whether a labelled keypoint is within one box size of the box: else no crop contains it."""
    x, y, w, h = annotation["bbox"]
    reach = max(w, h)
    values = annotation["keypoints"]
    return any(
        flag and x - reach <= px <= x + w + reach and y - reach <= py <= y + h + reach
        for px, py, flag in zip(values[::3], values[1::3], values[2::3], strict=True)
    )


def _note_oddities(
    annotation: Mapping[str, Any],
    image: Mapping[str, Any],
    where: str,
    seen_people: set,
    report: AnnotationReport,
) -> None:
    """Note what is odd about an annotation that is used all the same."""
    values = annotation["keypoints"]
    labelled = sum(flag > 0 for flag in values[2::3])
    if annotation["num_keypoints"] != labelled:
        report.add(WRONG_COUNT, where)
    points = [p for p in zip(values[::3], values[1::3], values[2::3], strict=True) if p[2]]
    if any(not (0 <= x <= image["width"] and 0 <= y <= image["height"]) for x, y, _ in points):
        report.add(POINTS_OFF_IMAGE, where)
    person = (annotation["image_id"], tuple(values))
    if person in seen_people:
        report.add(SAME_PERSON, where)
    seen_people.add(person)


def _refuse_the_hopeless(report: AnnotationReport, path: epath.PathLike, limit: float) -> None:
    bad = report.count(MALFORMED)
    if too_many(bad, report.num_annotations, limit):
        raise UserError(
            f"{path}: {bad} of {report.num_annotations} annotations are malformed "
            f"(at most {limit:.0%} are skipped); the first: {report.findings[MALFORMED][0]}"
        )
    if report.num_used == 0:
        found = ", ".join(f"{len(where)} {kind}" for kind, where in report.findings.items())
        raise UserError(
            f"{path}: no usable person among the annotations ({found or 'it is empty'})"
        )


def _tabulate(
    annotations: Sequence[Mapping[str, Any]],
    images: Mapping[int, Mapping[str, Any]],
    rows: Mapping[int, int],
    num_keypoints: int,
) -> People:
    people = People.empty(len(annotations), num_keypoints)
    people.image_id[:] = [a["image_id"] for a in annotations]
    people.image_row[:] = [rows[a["image_id"]] for a in annotations]
    people.annotation_id[:] = [a["id"] for a in annotations]
    people.image_wh[:] = [
        (images[a["image_id"]]["width"], images[a["image_id"]]["height"]) for a in annotations
    ]
    boxes = np.array([a["bbox"] for a in annotations], np.float64)
    people.box[:] = clean_box(boxes, people.image_wh)
    values = np.array([a["keypoints"] for a in annotations], np.float32)
    values = values.reshape(len(annotations), num_keypoints, 3)
    people.keypoints[:] = values[..., :2]
    people.visible[:] = values[..., 2]
    return people
