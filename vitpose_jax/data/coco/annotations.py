"""Reading and checking COCO keypoint annotations.

Training alone would not notice that people lack labelled keypoints, that boxes lie off their image,
or that counts contradict each other. These are returned as findings; annotations with fields of the
wrong type are left out.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from etils import epath

from vitpose_jax.data import findings
from vitpose_jax.data.coco.categories import choose_categories, skeleton_from_category
from vitpose_jax.data.coco.ids import Id, ImageIds, fit_in_int64, plain_id
from vitpose_jax.data.coco.person import (
    Joints,
    Json,
    Malformed,
    is_number,
    oddities,
    read_joints,
    read_person,
    short,
    why_not_used,
)
from vitpose_jax.data.coco.whole_body import has_whole_bodies, join_parts
from vitpose_jax.data.findings import Finding, Kind, Report
from vitpose_jax.data.people import People
from vitpose_jax.data.tolerance import MAX_BAD_SHARE, too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.keypoints.box_forms import (
    are_corners,
    beyond_image,
    fit_as_corners,
    mostly_outside,
)
from vitpose_jax.keypoints.crops import clean_box
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton

CORNERS_SHARE = 0.3
"""Boxes that fit their keypoints better as corners are reported from this share on."""

OUTSIDE_SHARE = 0.05
"""Boxes that miss most of their keypoints are reported from this share on; COCO has a few."""

COCO_PEOPLE = 20
"""COCO's AP and AR look at no more predictions per image than this."""

PictureSize = Callable[[str], tuple[int, int]]
"""From a file name to the picture's (width, height)."""


@dataclass(frozen=True)
class Annotations:
    """A checked annotation file.

    Attributes:
        skeleton: what is annotated.
        people: those that can be trained and evaluated on (boxes cleaned); `image_row` indexes
            `file_names`.
        file_names: M names of image files, relative to the split's folder.
        coco: the file's own dict without malformed annotations and categories that are not read,
            and with `iscrowd`, `num_keypoints` and `area` filled in; crowds and people without
            keypoints stay, as evaluation needs them. Ids that do not fit in int64 are replaced by
            numbers; an image's own id is kept in `file_id`.
        report: what was found.
    """

    skeleton: Skeleton
    people: People
    file_names: tuple[str, ...]
    coco: Json
    report: Report


def read_annotations(
    path: epath.PathLike,
    *,
    max_bad_share: float = MAX_BAD_SHARE,
    category: str = "",
    picture_size: PictureSize | None = None,
) -> Annotations:
    """Read and check a `person_keypoints_*.json` file, or one of the same layout.

    People are those the original trains and evaluates on: no crowd regions, at least one labelled
    keypoint, a box that is not empty after cleaning, and an area above 0 if one is given. If
    categories have different keypoints, the keypoints that most annotations have are read.

    Args:
        path: the JSON file; may be on `gs://`.
        max_bad_share: the largest share of malformed annotations that is skipped; see `too_many`.
        category: name or id of the one category to read.
        picture_size: gives the size of images for which the file has none.

    Raises:
        UserError: it is not a COCO keypoint file, a `file_name` leads out of the images' folder,
            too many annotations are malformed, or no usable person is left.
    """
    return check_annotations(
        read_json(path),
        path,
        max_bad_share=max_bad_share,
        category=category,
        picture_size=picture_size,
    )


def check_annotations(
    coco: Any,
    path: epath.PathLike,
    *,
    max_bad_share: float = MAX_BAD_SHARE,
    category: str = "",
    picture_size: PictureSize | None = None,
    malformed: Sequence[str] = (),
) -> Annotations:
    """Check the content of a file; see `read_annotations`.

    Args:
        coco: the content, which is changed in place.
        path: the file, for messages.
        max_bad_share, category, picture_size: as for `read_annotations`.
        malformed: why further annotations could not be converted to COCO's format, one text each.
    """
    _check_top_level(coco, path)
    images, image_findings = _read_images(coco["images"], path, picture_size)
    annotations: list[Any] = coco["annotations"]
    categories = [
        plain_id(a.get("category_id")) if isinstance(a, dict) else None for a in annotations
    ]
    chosen = choose_categories(coco["categories"], Counter(categories), category, str(path))
    ids = {entry["id"] for entry in chosen}
    to_read = [a for a, c in zip(annotations, categories, strict=True) if c in ids]
    whole_body = has_whole_bodies(chosen[0], to_read)
    if whole_body:
        join_parts(to_read)
        keypoints = list(SKELETONS["wholebody"].keypoint_names)
        chosen = [{**entry, "keypoints": keypoints} for entry in chosen]
    skeleton, found = skeleton_from_category(chosen[0], str(path))
    found += [Finding(findings.WHOLE_BODY, str(chosen[0].get("name")))] if whole_body else []
    found += [*image_findings, *(Finding(findings.MALFORMED, where) for where in malformed)]
    total = len(annotations) + len(malformed)
    report = Report(str(path), total, len(images), findings=found)
    if not any(isinstance(a, dict) and "id" in a for a in annotations):
        for number, annotation in enumerate(annotations, 1):
            if isinstance(annotation, dict):
                annotation["id"] = number
    reader = _Reader(images, report)
    listed = {
        plain_id(c.get("id")): bool(c.get("keypoints"))
        for c in coco["categories"]
        if isinstance(c, dict)
    }
    joints = read_joints(to_read, skeleton.num_keypoints)
    for index, (annotation, category_id) in enumerate(zip(annotations, categories, strict=True)):
        try:
            if category_id in ids:
                reader.read(annotation, category_id, next(joints))
            else:
                reader.read(annotation, category_id, _why_other(listed, category_id, annotation))
        except Malformed as problem:
            report.add(findings.MALFORMED, f"annotations[{index}]: {problem}", annotation)
    if not fit_in_int64([a["id"] for a in reader.checked]):
        for number, annotation in enumerate(reader.checked, 1):
            annotation["id"] = number

    labelled = Counter(a["image_id"] for a in reader.checked if a["num_keypoints"])
    for image in images:
        if labelled[image["id"]] > COCO_PEOPLE:
            report.add(findings.CROWDED, f"image {image['file_id']}")
    report.num_used = len(reader.kept)
    _refuse_the_hopeless(report, max_bad_share)
    names = tuple(image["file_name"] for image in images)
    people = _tabulate(reader)
    checked = {"images": images, "categories": chosen, "annotations": reader.checked}
    return Annotations(skeleton, people, names, {**coco, **checked}, report)


def _check_top_level(coco: Any, path: epath.PathLike) -> None:
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco, Mapping) or not isinstance(coco.get(key), list):
            raise UserError(
                f"{path} is not a COCO keypoint file: it has no list '{key}' "
                "(give annotations/person_keypoints_*.json)"
            )


def _read_images(
    entries: Sequence[Any], path: epath.PathLike, picture_size: PictureSize | None
) -> tuple[list[Json], list[Finding]]:
    """The images in the file's order; `id` fits in int64, `file_id` is the file's own id."""
    images: list[Json] = []
    ids: set[Id] = set()
    files: set[str] = set()
    found: list[Finding] = []
    for index, image in enumerate(entries):
        where = f"{path}: images[{index}]"
        if not isinstance(image, dict):
            raise UserError(f"{where} is not an object")
        image_id = plain_id(image.get("id"))
        if image_id is None:
            raise UserError(
                f"{where}: 'id' must be a whole number or a string, not {short(image.get('id'))}"
            )
        name = image.get("file_name")
        if not isinstance(name, str):
            raise UserError(f"{where}: 'file_name' must be a string, not {short(name)}")
        check_file_name(name, where)
        if picture_size and image.get("width") is None and image.get("height") is None:
            image["width"], image["height"] = picture_size(name)
            found.append(Finding(findings.NO_SIZE, name))
        for key in ("width", "height"):
            size = image.get(key)
            if not is_number(size) or size != int(size):
                raise UserError(f"{where}: '{key}' must be a whole number, not {short(size)}")
            image[key] = int(size)
        if min(image["width"], image["height"]) < 1:
            raise UserError(f"{where}: size {image['width']}x{image['height']} is not possible")
        if image_id in ids:
            raise UserError(f"{where}: image id {image_id} is used twice")
        if name in files:
            found.append(Finding(findings.SAME_FILE, name))
        ids.add(image_id)
        files.add(name)
        images.append({**image, "id": image_id, "file_id": image_id})
    if not fit_in_int64(list(ids)):
        for number, image in enumerate(images, 1):
            image["id"] = number
    return images, found


def check_file_name(name: str, where: str) -> None:
    """Refuse a file name that could lead out of its folder.

    Raises:
        UserError: it is empty or absolute, has a drive or scheme, or holds a `..`.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    elsewhere = re.match(r"[A-Za-z]:|[A-Za-z0-9+.-]+://", name) or "\0" in name
    if not parts or parts[0] == "/" or ".." in parts or elsewhere:
        raise UserError(
            f"{where}: file_name {name!r} leads out of the images' folder; give a name relative "
            "to that folder"
        )


class _Reader:
    """Reads annotations one by one.

    Attributes:
        checked: the well-formed annotations of the categories that are read.
        kept: those of them that are used as people.
        points: the keypoints of the kept, each (K, 3).
        rows: the image rows of the kept.
    """

    def __init__(self, images: Sequence[Json], report: Report) -> None:
        self.images, self.report = images, report
        self.checked: list[Json] = []
        self.kept: list[Json] = []
        self.points: list[np.ndarray] = []
        self.rows: list[int] = []
        self._image_ids = ImageIds(images)
        self._seen_ids: set[Id] = set()
        self._seen_people: set[tuple[int, int]] = set()

    def read(self, annotation: Any, category: Id | None, joints: Joints | Malformed | Kind) -> None:
        """Read one annotation.

        Args:
            annotation: from the file.
            category: its category's id.
            joints: its keypoints, the problem with them, or the finding why its category is not
                read.

        Raises:
            Malformed: it cannot be used.
        """
        if not isinstance(annotation, dict):
            raise Malformed(f"is {type(annotation).__name__}, not an object")
        name = plain_id(annotation.get("id"))
        if name is None:
            raise Malformed(_NO_ID.format("id", short(annotation.get("id"))))
        if category is None:
            raise Malformed(_NO_ID.format("category_id", short(annotation.get("category_id"))))
        row = self._image_ids.find(annotation.get("image_id"))
        if row is None:
            image_id = short(annotation.get("image_id"))
            if plain_id(annotation.get("image_id")) is None:
                raise Malformed(_NO_ID.format("image_id", image_id))
            raise Malformed(f"image_id {image_id} is not among the images")
        if isinstance(joints, Malformed):
            raise joints
        where, image = f"id {name}", self.images[row]
        found = [joints] if isinstance(joints, Kind) else read_person(annotation, joints)
        if name in self._seen_ids:
            found = [findings.REPEATED_ID]
        elif isinstance(joints, Joints):
            annotation.update(id=name, image_id=image["id"], category_id=category)
            self.checked.append(annotation)
            if reason := why_not_used(annotation, joints, image["width"], image["height"]):
                better = {findings.NO_KEYPOINTS, findings.LABELS_MISSING} & set(found)
                found = found if better else [*found, reason]
            else:
                found += self._keep(annotation, joints, row)
        self._seen_ids.add(name)
        for kind in found:
            self.report.add(kind, where, annotation)

    def _keep(self, person: Json, joints: Joints, row: int) -> list[Kind]:
        """Keep a person, and return what is odd about it."""
        self.kept.append(person)
        self.points.append(joints.points)
        self.rows.append(row)
        found = list(
            oddities(person, joints, self.images[row]["width"], self.images[row]["height"])
        )
        pose = (row, hash(joints.points.tobytes()))
        if pose in self._seen_people:
            found.append(findings.SAME_PERSON)
        self._seen_people.add(pose)
        return found


_NO_ID = "'{}' must be a whole number or a string, not {}"


def _why_other(listed: Mapping[Id | None, bool], category: Id | None, annotation: Any) -> Kind:
    """Why an annotation of a category that is not read is left out.

    Args:
        listed: the file's category ids, and whether each category names keypoints.
        category: the annotation's category id.
        annotation: from the file.
    """
    if category not in listed or not isinstance(annotation, dict):
        return findings.UNKNOWN_CATEGORY
    if listed[category]:
        return findings.OTHER_KEYPOINTS
    has_points = annotation.get("keypoints") and annotation.get("num_keypoints") != 0
    return findings.UNNAMED_KEYPOINTS if has_points else findings.OTHER_CATEGORY


def _refuse_the_hopeless(report: Report, limit: float) -> None:
    """Raise UserError if too many annotations are malformed or no usable person is left."""
    found = report.by_kind()
    malformed = found.get(findings.MALFORMED, [])
    if too_many(len(malformed), report.num_annotations, limit):
        raise UserError(
            f"{report.source}: {len(malformed)} of {report.num_annotations} annotations are "
            f"malformed (at most {limit:.0%} are skipped); the first: {malformed[0]}"
        )
    if report.num_used == 0:
        counts = ", ".join(f"{len(w)} {kind.words}" for kind, w in found.items() if kind.left_out)
        raise UserError(
            f"{report.source}: no usable person among the annotations ({counts or 'it is empty'})"
        )


def _tabulate(reader: _Reader) -> People:
    kept, rows = reader.kept, reader.rows
    points = np.stack(reader.points).astype(np.float32)
    people = People.empty(len(kept), points.shape[1])
    people.image_id[:] = [a["image_id"] for a in kept]
    people.image_row[:] = rows
    people.annotation_id[:] = [a["id"] for a in kept]
    people.image_wh[:] = [(reader.images[r]["width"], reader.images[r]["height"]) for r in rows]
    boxes = np.array([a["bbox"] for a in kept], np.float64)
    people.box[:] = clean_box(boxes, people.image_wh)
    people.keypoints[:] = points[..., :2]
    people.visible[:] = points[..., 2]
    _doubt_boxes(boxes, people, reader)
    return people


def _doubt_boxes(boxes: np.ndarray, people: People, reader: _Reader) -> None:
    """Report boxes that reach far beyond their images, look like corners, or miss their people."""
    beyond = beyond_image(boxes, people.image_wh)
    corners = fit_as_corners(boxes, people.keypoints, people.visible > 0)
    if are_corners(boxes, people.image_wh):
        corners = np.ones(len(boxes), bool)
    elif corners.sum() < max(3, CORNERS_SHARE * len(boxes)):
        corners[:] = False
    outside = mostly_outside(boxes, people.keypoints, people.visible > 0) & ~corners
    if outside.sum() < OUTSIDE_SHARE * len(boxes):
        outside[:] = False
    beyond &= ~corners & ~outside
    masks = (
        (findings.CORNERS, corners),
        (findings.POINTS_OUTSIDE_BOX, outside),
        (findings.BEYOND_IMAGE, beyond),
    )
    for kind, mask in masks:
        for row in np.flatnonzero(mask):
            where = f"id {people.annotation_id[row]}"
            reader.report.add(kind, where, reader.kept[row])
