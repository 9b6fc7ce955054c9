"""COCO keypoint evaluation: person scores, OKS suppression and the ten numbers of pycocotools.

The rules are those of the original's `TopDownCocoDataset.evaluate`: a person predicted twice counts
once (the first prediction), a person's score is the box score times the mean of the keypoint scores
above 0.2, and similar poses are suppressed at an OKS of 0.9, computed with the padded crop's area.
"""

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitpose_jax.data.coco.annotations import COCO_PEOPLE
from vitpose_jax.data.coco.categories import keypoint_categories
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.oks import oks_nms, person_scores

STAT_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
_CATEGORY = 1  # the one evaluated; `_keypoint_truth` gives it to every annotation it keeps

Json = Mapping[str, Any]
"""The content of a COCO keypoint file, or one of its annotations."""


@dataclass(frozen=True)
class PosePredictions:
    """Predicted people of a whole data set; row i of every array is one person.

    Attributes:
        keypoints: pixels of the original image.
        scores: scores of the keypoints.
        box_scores: scores of the boxes that were cropped.
        areas: areas of the padded crops, in square pixels.
        image_ids: ids of the images.
        person_ids: repeated if a person was predicted twice.
    """

    keypoints: Float[np.ndarray, "people keypoints 2"]
    scores: Float[np.ndarray, "people keypoints"]
    box_scores: Float[np.ndarray, " people"]
    areas: Float[np.ndarray, " people"]
    image_ids: Int[np.ndarray, " people"]
    person_ids: Int[np.ndarray, " people"]

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "PosePredictions":
        """The people of the given rows, in that order."""
        return PosePredictions(**{name: value[rows] for name, value in vars(self).items()})


def coco_results(
    predictions: PosePredictions, sigmas: Float[np.ndarray, " keypoints"], *, use_nms: bool = True
) -> list[dict[str, Any]]:
    """COCO's list of result dicts, with person scores and without repeated people."""
    ids = np.stack([predictions.image_ids, predictions.person_ids])
    _, first = np.unique(ids, axis=1, return_index=True)
    predictions = predictions.take(np.sort(first))
    scores = person_scores(predictions.scores, predictions.box_scores)
    points = np.concatenate([predictions.keypoints, predictions.scores[..., None]], axis=-1)
    results = []
    for image_id in np.unique(predictions.image_ids):
        rows = np.flatnonzero(predictions.image_ids == image_id)
        if use_nms:
            found = predictions.take(rows)
            rows = rows[oks_nms(found.keypoints, scores[rows], found.areas, sigmas)]
        results += [
            {
                "image_id": int(image_id),
                "category_id": _CATEGORY,
                "keypoints": points[row].astype(float).reshape(-1).tolist(),
                "score": float(scores[row]),
            }
            for row in rows
        ]
    return results


def evaluate_coco(
    predictions: PosePredictions,
    annotations: Json,
    sigmas: Float[np.ndarray, " keypoints"],
    *,
    use_nms: bool = True,
    max_people: int = COCO_PEOPLE,
) -> dict[str, float]:
    """The ten numbers of COCO's keypoint evaluation; -1 where nobody of that size is labelled.

    Args:
        predictions: on the annotations' images; people on images without predictions are missed.
        annotations: with `area`, `iscrowd` and `num_keypoints` for every person, as
            `read_annotations` fills them in.
        sigmas: OKS falloff constants.
        use_nms: whether to suppress similar poses.
        max_people: how many predictions per image count, best scores first.

    Raises:
        UserError: the annotations hold no people with keypoints.
    """
    truth = _keypoint_truth(annotations)
    if not any(entry["num_keypoints"] > 0 for entry in truth["annotations"]):
        raise UserError("the validation annotations hold no person with keypoints: AP is undefined")
    results = coco_results(predictions, sigmas, use_nms=use_nms)
    stats = _summarize(truth, results, sigmas, max_people)
    return dict(zip(STAT_NAMES, map(float, stats), strict=True))


def keypoint_table(
    predictions: PosePredictions,
    annotations: Json,
    sigmas: Float[np.ndarray, " keypoints"],
    names: Sequence[str],
    *,
    use_nms: bool = True,
    max_people: int = COCO_PEOPLE,
) -> dict[str, float]:
    """AP of each keypoint by itself: the same protocol with all other keypoints unlabelled.

    People whose keypoint is not labelled count as crowds: predictions that match them are neither
    right nor wrong. Keypoints that are never labelled are left out of the table.
    """
    truth = _keypoint_truth(annotations)
    results = coco_results(predictions, sigmas, use_nms=use_nms)
    table = {}
    for index, name in enumerate(names):
        alone = [_only_keypoint(entry, index) for entry in truth["annotations"]]
        if any(entry["num_keypoints"] for entry in alone):
            single = {**truth, "annotations": alone}
            table[name] = float(_summarize(single, results, sigmas, max_people)[0])
    return table


def _keypoint_truth(annotations: Json) -> dict[str, Any]:
    """Only the keypoint annotations, all in one category and numbered from 1.

    The annotations' own ids are not used, because pycocotools takes an id of 0 as "no match".
    All categories with the same keypoints as the first one count.

    Raises:
        UserError: no category names keypoints.
    """
    categories = keypoint_categories(annotations["categories"], "the validation annotations")
    ids = {category.get("id") for category in categories}
    return {
        **annotations,
        "categories": [{**categories[0], "id": _CATEGORY}],
        "annotations": [
            {**entry, "category_id": _CATEGORY, "id": number}
            for number, entry in enumerate(annotations["annotations"], 1)
            if entry["category_id"] in ids
        ],
    }


def _only_keypoint(annotation: Json, index: int) -> dict[str, Any]:
    points = np.array(annotation["keypoints"], float).reshape(-1, 3)
    points[np.arange(len(points)) != index, 2] = 0
    seen = int((points[:, 2] > 0).sum())
    crowd = annotation["iscrowd"] if seen else 1
    keypoints = points.reshape(-1).tolist()
    return {**annotation, "keypoints": keypoints, "num_keypoints": seen, "iscrowd": crowd}


def _summarize(
    truth: dict[str, Any], results: list[dict[str, Any]], sigmas: np.ndarray, max_people: int
) -> np.ndarray:
    """The ten numbers of pycocotools; all 0 where nothing was predicted."""
    if not results:
        return np.zeros(len(STAT_NAMES))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        index = COCO()
        index.dataset = truth
        index.createIndex()
        evaluation = COCOeval(index, index.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluation.params.maxDets = [max_people]
        evaluation.evaluate()
        evaluation.accumulate()
    # summarize() works only with COCO's own limit. Axes: thresholds 0.5, 0.55, ..., then 101
    # recalls (precision only), the category, the areas (all, medium, large) and the limit.
    precision = evaluation.eval["precision"][:, :, 0, :, 0]
    recall = evaluation.eval["recall"][:, 0, :, 0]
    numbers: list[np.ndarray] = []
    for part in (precision, recall):
        everybody = part[..., 0]
        numbers += [everybody, everybody[:1], everybody[5:6], part[..., 1], part[..., 2]]
    return np.array([n[n > -1].mean() if (n > -1).any() else -1.0 for n in numbers])


def crowded_images(annotations: Json, max_people: int) -> list[Any]:
    """Ids of images with more labelled people than `max_people`."""
    counts = Counter(a["image_id"] for a in annotations["annotations"] if a["num_keypoints"] > 0)
    return [image_id for image_id, count in counts.items() if count > max_people]
