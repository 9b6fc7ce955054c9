"""Person boxes from a detector, in COCO's results form."""

import logging
from typing import Any

from etils import epath

from vitpose_jax.data.coco.categories import keypoint_categories
from vitpose_jax.data.coco.person import is_number
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.people import People
from vitpose_jax.data.tolerance import MAX_BAD_SHARE, too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json

log = logging.getLogger(__name__)


def detected_people(dataset: PoseDataset, path: epath.PathLike, min_score: float = 0.0) -> People:
    """A detector's boxes, uncleaned, in place of a data set's annotated ones.

    Malformed boxes, and those on images that the data set does not have, are left out and counted.

    Args:
        dataset: whose images and categories count.
        path: JSON list of {image_id, category_id, bbox (x, y, width, height), score}.
        min_score: boxes with a lower score are left out; the original's threshold is 0.

    Returns:
        People whose `annotation_id` is the row in the file, and whose keypoints are unlabelled.

    Raises:
        UserError: the data set holds crops of annotated boxes only, or the file is none of
            detections, has too many malformed entries, or no box on the images.
    """
    if not dataset.has_whole_images:
        raise UserError(
            f"{dataset.name} holds crops around annotated boxes only; "
            "evaluate on detections with the COCO folder it was made from"
        )
    categories = keypoint_categories(dataset.coco_gt["categories"], dataset.name)
    category_ids = [category["id"] for category in categories]
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path} is not a detections file: a JSON list of boxes is expected")
    rows = {int(image_id): row for row, image_id in enumerate(dataset.image_ids)}
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

    people = People.empty(len(kept), dataset.skeleton.num_keypoints)
    people.image_id[:] = [entries[i]["image_id"] for i in kept]
    people.image_row[:] = [rows[entries[i]["image_id"]] for i in kept]
    people.image_wh[:] = dataset.load_image_wh()[people.image_row]
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
