"""Person boxes from a detector, in COCO's results form."""

import logging
from collections.abc import Collection
from typing import Any

import numpy as np
from etils import epath

from vitpose_jax.data.coco.annotations import is_number
from vitpose_jax.data.coco.categories import keypoint_categories
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.people import People
from vitpose_jax.data.tolerance import MAX_BAD_SHARE, too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json

log = logging.getLogger(__name__)


def detected_people(dataset: PoseDataset, path: epath.PathLike, min_score: float = 0.0) -> People:
    """A detector's boxes in place of a data set's annotated ones; see `read_detections`.

    Raises:
        UserError: as `read_detections`, and where the data set holds crops of annotated boxes only.
    """
    if not dataset.has_whole_images:
        raise UserError(
            f"{dataset.name} holds crops around annotated boxes only; "
            "evaluate on detections with the COCO folder it was made from"
        )
    categories = keypoint_categories(dataset.coco_gt["categories"], dataset.name)
    return read_detections(
        path,
        dataset.image_ids,
        dataset.load_image_wh(),
        dataset.skeleton.num_keypoints,
        min_score,
        [category["id"] for category in categories],
    )


def read_detections(
    path: epath.PathLike,
    image_ids: np.ndarray,
    image_wh: np.ndarray,
    num_keypoints: int,
    min_score: float = 0.0,
    category_ids: Collection[int] = (1,),
) -> People:
    """Read boxes of people with a score of at least `min_score`, uncleaned.

    Malformed boxes, and those on images that the data set does not have, are left out and counted.

    Args:
        path: JSON list of {image_id, category_id, bbox (x, y, width, height), score}.
        image_ids: (M,), ids of the data set's images.
        image_wh: (M, 2), their sizes.
        num_keypoints: K; the keypoints of the result are all unlabelled.
        min_score: the original's threshold is 0.
        category_ids: whose boxes to take: the data set's own (COCO's person is 1).

    Returns:
        People whose `annotation_id` is the row in the file.

    Raises:
        UserError: not such a file, too many malformed entries, or no box on the images.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path} is not a detections file: a JSON list of boxes is expected")
    rows = {int(image_id): row for row, image_id in enumerate(image_ids)}
    kept, malformed, elsewhere = [], [], 0
    for index, entry in enumerate(entries):
        if problem := _problem(entry):
            malformed.append(f"[{index}]: {problem}")
        elif entry["category_id"] in category_ids and entry["score"] >= min_score:
            if entry["image_id"] in rows:
                kept.append(index)
            else:
                elsewhere += 1
    if too_many(len(malformed), len(entries), MAX_BAD_SHARE):
        raise UserError(f"{path}: {len(malformed)} malformed entries, the first: {malformed[0]}")
    if not kept:
        seen = sorted({entry["category_id"] for entry in entries if not _problem(entry)})
        raise UserError(
            f"{path}: none of the {len(entries)} boxes, of category_id {seen}, is a person "
            f"(category_id {sorted(category_ids)}) scored {min_score:g} or more on this data "
            f"set's images ({elsewhere} people are on other images)"
        )
    for words, count in (("malformed entries", len(malformed)), ("on other images", elsewhere)):
        if count:
            log.warning("%s: left out %d boxes: %s", path, count, words)

    people = People.empty(len(kept), num_keypoints)
    people.image_id[:] = [entries[i]["image_id"] for i in kept]
    people.image_row[:] = [rows[entries[i]["image_id"]] for i in kept]
    people.image_wh[:] = np.asarray(image_wh)[people.image_row]
    people.annotation_id[:] = kept
    people.box[:] = [entries[i]["bbox"] for i in kept]
    people.box_score[:] = [entries[i]["score"] for i in kept]
    return people


def _problem(entry: Any) -> str | None:
    """What is wrong with a box's fields, in words; None where they can be used."""
    if not isinstance(entry, dict):
        return "is not an object"
    for key in ("image_id", "category_id"):
        if not isinstance(entry.get(key), int):
            return f"'{key}' must be an integer, is {entry.get(key)!r}"
    box, score = entry.get("bbox"), entry.get("score")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return f"'bbox' must be four finite numbers, is {box!r}"
    if not is_number(score):
        return f"'score' must be a number, is {score!r}"
    return f"'bbox' has no area: {box!r}" if box[2] <= 0 or box[3] <= 0 else None
