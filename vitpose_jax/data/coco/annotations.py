"""Reading COCO keypoint annotations, and checking them.

Training would not notice by itself that people lack labelled keypoints, that boxes lie off their
image, or that counts contradict each other. Such things come back as findings; annotations with
fields of the wrong type are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeGuard

import numpy as np
from etils import epath

from vitpose_jax.data.coco import findings
from vitpose_jax.data.coco.categories import keypoint_categories, skeleton_from_category
from vitpose_jax.data.coco.findings import Kind, Report
from vitpose_jax.data.people import People
from vitpose_jax.data.tolerance import MAX_BAD_SHARE, too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.keypoints.crops import clean_box
from vitpose_jax.keypoints.skeletons import Skeleton

Json = dict[str, Any]
"""An object of the file."""


@dataclass(frozen=True)
class Annotations:
    """A checked annotation file.

    Attributes:
        skeleton: what is annotated.
        people: those that can be trained and evaluated on (boxes cleaned); `image_row` counts
            along `file_names`.
        file_names: M names of image files, relative to the split's folder.
        coco: the file's own dict without malformed annotations, and with `iscrowd`,
            `num_keypoints` and `area` filled in; evaluation needs crowds and people without
            keypoints.
        report: what was found.
    """

    skeleton: Skeleton
    people: People
    file_names: tuple[str, ...]
    coco: Json
    report: Report


def read_annotations(path: epath.PathLike, *, max_bad_share: float = MAX_BAD_SHARE) -> Annotations:
    """Read and check a `person_keypoints_*.json` file, or one of the same layout.

    People are those the original trains and evaluates on: no crowd regions, at least one labelled
    keypoint, a box with something left after cleaning, and an area above 0 where one is given.

    Args:
        path: the JSON file; may be on `gs://`.
        max_bad_share: the largest share of malformed annotations that is skipped; see `too_many`.

    Raises:
        UserError: not a COCO keypoint file, an image's `file_name` that leaves its folder, more
            malformed annotations than `max_bad_share`, or nobody left.
    """
    coco = read_json(path)
    _check_top_level(coco, path)
    categories = keypoint_categories(coco["categories"], str(path))
    skeleton, found = skeleton_from_category(categories[0], str(path))
    category_ids = frozenset(c["id"] for c in categories if isinstance(c.get("id"), int))
    images = _read_images(coco["images"], path)
    report = Report(str(path), len(coco["annotations"]), len(images), findings=found)

    checked, kept = [], []
    seen_ids: set[int] = set()
    seen_people: set[tuple[Any, ...]] = set()
    for index, annotation in enumerate(coco["annotations"]):
        problem = _type_problem(annotation, images, skeleton.num_keypoints, category_ids)
        if problem:
            report.add(findings.MALFORMED, f"annotations[{index}]: {problem}")
            continue
        where = f"id {annotation['id']}"
        if annotation["id"] in seen_ids:
            report.add(findings.REPEATED_ID, where)
            continue
        seen_ids.add(annotation["id"])
        checked.append(annotation)
        if annotation["category_id"] not in category_ids:
            report.add(findings.OTHER_CATEGORY, where)
            continue
        has_area = "area" in annotation
        _fill_in(annotation)
        image = images[annotation["image_id"]]
        if reason := _why_not_used(annotation, image):
            report.add(reason, where)
            continue
        if not has_area:
            report.add(findings.NO_AREA, where)
        for kind in _oddities(annotation, image, seen_people):
            report.add(kind, where)
        kept.append(annotation)

    report.num_used = len(kept)
    _refuse_the_hopeless(report, max_bad_share)
    names = tuple(image["file_name"] for image in images.values())
    people = _tabulate(kept, images, skeleton.num_keypoints)
    return Annotations(skeleton, people, names, {**coco, "annotations": checked}, report)


def _check_top_level(coco: Any, path: epath.PathLike) -> None:
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco, Mapping) or not isinstance(coco.get(key), list):
            raise UserError(
                f"{path} is not a COCO keypoint file: it has no list '{key}' "
                "(the file to give is annotations/person_keypoints_*.json)"
            )


def _read_images(entries: Sequence[Any], path: epath.PathLike) -> dict[int, Json]:
    """The images by id, in the file's order."""
    images: dict[int, Json] = {}
    for index, image in enumerate(entries):
        where = f"{path}: images[{index}]"
        if not isinstance(image, dict):
            raise UserError(f"{where} is not an object")
        for key, kind in (("id", int), ("file_name", str), ("width", int), ("height", int)):
            if type(image.get(key)) is not kind:
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
        UserError: it is empty or absolute, has a drive or scheme, or holds a `..`.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in name or "\0" in name:
        raise UserError(f"{where}: file_name {name!r} leads out of the images' folder; refused")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of the file is a number below 1e9, as all coordinates are."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _type_problem(
    annotation: Any,
    images: Mapping[int, Json],
    num_keypoints: int,
    category_ids: frozenset[int],
) -> str | None:
    """What is wrong with an annotation's fields, in words; None where they can be used."""
    if not isinstance(annotation, dict):
        return f"is {type(annotation).__name__}, not an object"
    for key in ("id", "image_id", "category_id"):
        if type(annotation.get(key)) is not int:
            return f"'{key}' must be an integer, is {annotation.get(key)!r}"
    if annotation["image_id"] not in images:
        return f"image_id {annotation['image_id']} is not among the images"
    if annotation["category_id"] not in category_ids:
        return None
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return f"'bbox' must be four numbers (x, y, width, height), is {_short(box)}"
    values = annotation.get("keypoints")
    if not isinstance(values, list) or len(values) != 3 * num_keypoints:
        count = f"{len(values)} values" if isinstance(values, list) else _short(values)
        return f"'keypoints' must be {3 * num_keypoints} numbers, is {count}"
    if not all(map(is_number, values)):
        return "'keypoints' holds something that is not a finite number"
    if any(flag not in (0, 1, 2) for flag in values[2::3]):
        return "a visibility flag in 'keypoints' is not 0, 1 or 2"
    if not is_number(annotation.get("area", 1.0)):
        return f"'area' must be a number, is {_short(annotation['area'])}"
    if annotation.get("iscrowd", 0) not in (0, 1):
        return f"'iscrowd' must be 0 or 1, is {_short(annotation['iscrowd'])}"
    if not isinstance(annotation.get("num_keypoints", 0), int):
        return f"'num_keypoints' must be an integer, is {_short(annotation['num_keypoints'])}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fill_in(annotation: Json) -> None:
    """Add what evaluation needs and the file may leave out."""
    _, _, width, height = annotation["bbox"]
    annotation.setdefault("iscrowd", 0)
    annotation.setdefault("num_keypoints", sum(flag > 0 for flag in annotation["keypoints"][2::3]))
    annotation.setdefault("area", width * height)


def _labelled(annotation: Json) -> list[tuple[float, float]]:
    """The labelled keypoints, (x, y)."""
    values = annotation["keypoints"]
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    return [(x, y) for x, y, flag in triples if flag]


def _why_not_used(annotation: Json, image: Json) -> Kind | None:
    """Why a well-formed annotation is left out; None where it is used."""
    if annotation["iscrowd"]:
        return findings.CROWD
    points = _labelled(annotation)
    if not points or annotation["num_keypoints"] == 0:
        return findings.UNLABELLED
    x, y, w, h = annotation["bbox"]
    left, top = max(0, x), max(0, y)
    right = min(image["width"] - 1, left + max(0, w - 1))
    bottom = min(image["height"] - 1, top + max(0, h - 1))
    if right <= left or bottom <= top or annotation["area"] <= 0:
        return findings.OFF_IMAGE
    reach = max(w, h)  # beyond one box size no crop contains a keypoint
    near = (
        x - reach <= px <= x + w + reach and y - reach <= py <= y + h + reach for px, py in points
    )
    return None if any(near) else findings.POINTS_OFF_BOX


def _oddities(annotation: Json, image: Json, seen_people: set[tuple[Any, ...]]) -> Iterator[Kind]:
    """What is odd about an annotation that is used all the same; adds it to `seen_people`."""
    points = _labelled(annotation)
    if annotation["num_keypoints"] != len(points):
        yield findings.WRONG_COUNT
    if any(not (0 <= x <= image["width"] and 0 <= y <= image["height"]) for x, y in points):
        yield findings.POINTS_OFF_IMAGE
    person = (annotation["image_id"], tuple(annotation["keypoints"]))
    if person in seen_people:
        yield findings.SAME_PERSON
    seen_people.add(person)


def _refuse_the_hopeless(report: Report, limit: float) -> None:
    """Raise UserError where too much is malformed or nobody is left."""
    found = report.by_kind()
    malformed = found.get(findings.MALFORMED, [])
    if too_many(len(malformed), report.num_annotations, limit):
        raise UserError(
            f"{report.source}: {len(malformed)} of {report.num_annotations} annotations are "
            f"malformed (at most {limit:.0%} are skipped); the first: {malformed[0]}"
        )
    if report.num_used == 0:
        counts = ", ".join(f"{len(where)} {kind.words}" for kind, where in found.items())
        raise UserError(
            f"{report.source}: no usable person among the annotations ({counts or 'it is empty'})"
        )


def _tabulate(
    annotations: Sequence[Json], images: Mapping[int, Json], num_keypoints: int
) -> People:
    rows = {image_id: row for row, image_id in enumerate(images)}
    of_person = [images[a["image_id"]] for a in annotations]
    people = People.empty(len(annotations), num_keypoints)
    people.image_id[:] = [a["image_id"] for a in annotations]
    people.image_row[:] = [rows[a["image_id"]] for a in annotations]
    people.annotation_id[:] = [a["id"] for a in annotations]
    people.image_wh[:] = [(image["width"], image["height"]) for image in of_person]
    boxes = np.array([a["bbox"] for a in annotations], np.float64)
    people.box[:] = clean_box(boxes, people.image_wh)
    values = np.array([a["keypoints"] for a in annotations], np.float32)
    values = values.reshape(len(annotations), num_keypoints, 3)
    people.keypoints[:] = values[..., :2]
    people.visible[:] = values[..., 2]
    return people
