"""Person boxes from a detector, in COCO's results format."""

import logging
from typing import Any

import numpy as np
from etils import epath

from vitpose_jax.data.coco.categories import keypoint_categories
from vitpose_jax.data.coco.ids import ImageIds, plain_id
from vitpose_jax.data.coco.person import is_number
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.people import People
from vitpose_jax.data.tolerance import MAX_BAD_SHARE, too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.keypoints.box_forms import (
    BEYOND_WORDS,
    CORNERS_WORDS,
    NORMALIZED_WORDS,
    are_corners,
    beyond_image,
    normalized,
)

log = logging.getLogger(__name__)


def detected_people(dataset: PoseDataset, path: epath.PathLike, min_score: float = 0.0) -> People:
    """A detector's boxes, as they are, in place of a data set's annotated ones.

    Malformed boxes, and boxes on images that the data set does not have, are left out with a
    warning.

    Args:
        dataset: has the images and the categories.
        path: JSON list of {image_id, category_id, bbox (x, y, width, height), score}; `image_id`
            may be an image's id or the name of its file.
        min_score: boxes with a lower score are left out; the original's threshold is 0.

    Returns:
        People whose `annotation_id` is the row in the file, and whose keypoints are unlabelled.

    Raises:
        UserError: the data set holds only crops of annotated boxes, or the file is not a detections
            file, has too many malformed entries, or has no box on the images.
    """
    if not dataset.has_whole_images:
        raise UserError(
            f"{dataset.name} holds crops around annotated boxes only; "
            "to evaluate on detections, give the COCO folder it was made from"
        )
    coco = dataset.coco_gt
    categories = keypoint_categories(coco["categories"], dataset.name)
    category_ids = {plain_id(category["id"]) for category in categories}
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path} is not a detections file: a JSON list of boxes is expected")
    images = ImageIds(coco.get("images") or [{"id": int(i)} for i in dataset.image_ids])
    kept, rows, malformed, elsewhere = [], [], [], []
    seen = set()
    for index, entry in enumerate(entries):
        if problem := _problem(entry):
            malformed.append(f"[{index}]: {problem}")
            continue
        category = plain_id(entry["category_id"])
        seen.add(category)
        if category in category_ids and entry["score"] >= min_score:
            row = images.find(entry["image_id"])
            if row is None:
                elsewhere.append(f"image_id {entry['image_id']!r}")
            else:
                kept.append(index)
                rows.append(row)
    if too_many(len(malformed), len(entries), MAX_BAD_SHARE):
        raise UserError(f"{path}: {len(malformed)} malformed entries, the first: {malformed[0]}")
    if not kept:
        others, ours = sorted(seen, key=str), sorted(category_ids, key=str)
        raise UserError(
            f"{path}: none of the {len(entries)} boxes, of category_id {others}, is a person "
            f"(category_id {ours}) scored {min_score:g} or more on this data set's images "
            f"({len(elsewhere)} people are on other images)"
        )
    for words, where in (("malformed entries", malformed), ("on other images", elsewhere)):
        if where:
            log.warning(
                "%s: left out %d boxes: %s, for instance %s", path, len(where), words, where[0]
            )

    people = People.empty(len(kept), dataset.skeleton.num_keypoints)
    people.image_row[:] = rows
    people.image_id[:] = dataset.image_ids[rows]
    people.image_wh[:] = dataset.load_image_wh()[rows]
    people.annotation_id[:] = kept
    people.box[:] = [entries[i]["bbox"] for i in kept]
    people.box_score[:] = [entries[i]["score"] for i in kept]
    _doubt_boxes(people, path)
    _tell_of_empty_images(people, dataset, path)
    return people


def _doubt_boxes(people: People, path: epath.PathLike) -> None:
    """Warn of boxes in other units or forms; refuse the file if most are fractions."""
    fractions = normalized(people.box)
    if fractions.mean() >= 0.5:
        raise UserError(f"{path}: {fractions.sum()} of {len(people)} are {NORMALIZED_WORDS}")
    beyond = beyond_image(people.box, people.image_wh)
    words = BEYOND_WORDS
    if are_corners(people.box, people.image_wh):
        beyond, words = np.ones(len(people), bool), CORNERS_WORDS
    for mask, what in ((fractions, NORMALIZED_WORDS), (beyond, words)):
        if mask.any():
            first = people.annotation_id[np.argmax(mask)]
            log.warning(
                "%s: %d of %d are %s, for instance entry %d",
                *(path, mask.sum(), len(people), what, first),
            )


def _tell_of_empty_images(people: People, dataset: PoseDataset, path: epath.PathLike) -> None:
    """Warn if many images with annotated people have no box: image ids may not match."""
    annotated = np.unique(dataset.people.image_id)
    empty = annotated[~np.isin(annotated, people.image_id)]
    if len(empty) > 0.1 * len(annotated):
        log.warning(
            "%s: has no box on %d of %d images with annotated people, for instance image %d",
            *(path, len(empty), len(annotated), empty[0]),
        )


def _problem(entry: Any) -> str | None:
    """What is wrong with a box's fields, in words; None if they can be used."""
    if not isinstance(entry, dict):
        return "is not an object"
    for key in ("image_id", "category_id"):
        if plain_id(entry.get(key)) is None:
            return f"'{key}' must be a whole number or a string, not {entry.get(key)!r}"
    box, score = entry.get("bbox"), entry.get("score")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return f"'bbox' must be four finite numbers, not {box!r}"
    if not is_number(score):
        return f"'score' must be a number, not {score!r}"
    return f"'bbox' has no area: {box!r}" if box[2] <= 0 or box[3] <= 0 else None
