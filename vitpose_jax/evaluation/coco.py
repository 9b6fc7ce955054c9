"""COCO keypoint evaluation: person scores, OKS suppression and the ten numbers of pycocotools.

The rules are those of the original's `TopDownCocoDataset.evaluate`: a person given twice counts
once (the first), its score is the box score times the mean of the keypoint scores above 0.2, and
people who look alike are thinned by OKS at 0.9, in which the area is that of the padded crop.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitpose_jax.data.coco.categories import keypoint_categories
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.oks import oks_nms, person_scores

CATEGORY = 1
"""The one category that is evaluated; `keypoint_truth` makes every keypoint category it."""
STAT_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


@dataclass(frozen=True)
class PosePredictions:
    """Predicted people of a whole data set; row i of every array is one person.

    keypoints: (N, K, 2) original-image pixels. scores: (N, K). box_scores: (N,).
    areas: (N,) area in square pixels of the padded crop. image_ids: (N,) int64.
    person_ids: (N,) int64, equal for a person that was given twice.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray
    image_ids: np.ndarray
    person_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, rows: np.ndarray) -> "PosePredictions":
        """The people of the given rows, in that order."""
        return PosePredictions(**{name: value[rows] for name, value in vars(self).items()})


def coco_results(
    predictions: PosePredictions, sigmas: np.ndarray, *, use_nms: bool = True
) -> list[dict]:
    """Predictions -> COCO's list of result dicts, rescored and with repeated people removed.

    All are of CATEGORY.
    """
    _, first = np.unique(
        np.stack([predictions.image_ids, predictions.person_ids]), axis=1, return_index=True
    )
    predictions = predictions.take(np.sort(first))
    scores = person_scores(predictions.scores, predictions.box_scores)
    results = []
    for image_id in np.unique(predictions.image_ids):
        rows = np.flatnonzero(predictions.image_ids == image_id)
        if use_nms:
            found = predictions.take(rows)
            rows = rows[oks_nms(found.keypoints, scores[rows], found.areas, sigmas)]
        for row in rows:
            points = np.concatenate(
                [predictions.keypoints[row], predictions.scores[row][:, None]], axis=-1
            )
            results.append(
                {
                    "image_id": int(image_id),
                    "category_id": CATEGORY,
                    "keypoints": points.astype(float).reshape(-1).tolist(),
                    "score": float(scores[row]),
                }
            )
    return results


def keypoint_truth(annotations: Mapping) -> dict:
    """A keypoint file's content with only the annotations of keypoints, all of CATEGORY.

    Whatever shares the first keypoint category's keypoints counts, as when the people were read.
    Raises UserError when no category names keypoints.
    """
    categories = keypoint_categories(annotations["categories"], "the validation annotations")
    ids = {category.get("id") for category in categories}
    return {
        **annotations,
        "categories": [{**categories[0], "id": CATEGORY}],
        "annotations": [
            {**entry, "category_id": CATEGORY}
            for entry in annotations["annotations"]
            if entry["category_id"] in ids
        ],
    }


def open_index(truth: Mapping) -> COCO:
    """A pycocotools index over annotations already in memory (it prints nothing)."""
    index = COCO()
    index.dataset = dict(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index


def evaluate_coco(
    predictions: PosePredictions,
    annotations: Mapping,
    sigmas: np.ndarray,
    *,
    use_nms: bool = True,
    image_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """The ten numbers of COCO's keypoint evaluation (-1 where nothing of that size is labelled).

    annotations: a COCO keypoint file's content, `area`, `iscrowd` and `num_keypoints` with every
    person (`read_annotations` fills them in). image_ids: the images to judge (default: all of
    the annotations'), so that an image without predictions still costs its people.
    Raises UserError when the annotations hold no people with keypoints.
    """
    truth = keypoint_truth(annotations)
    if not any(entry["num_keypoints"] > 0 for entry in truth["annotations"]):
        raise UserError("the validation annotations hold no person with keypoints: AP is undefined")
    results = coco_results(predictions, sigmas, use_nms=use_nms)
    stats = summarize(open_index(truth), results, sigmas, image_ids)
    return dict(zip(STAT_NAMES, map(float, stats), strict=True))


def keypoint_table(
    predictions: PosePredictions,
    annotations: Mapping,
    sigmas: np.ndarray,
    names: Sequence[str],
    *,
    use_nms: bool = True,
) -> dict[str, float]:
    """AP of each keypoint by itself: the same protocol, all other keypoints taken as unlabelled.

    People for whom the keypoint is not labelled count like crowds: what is found on them is neither
    right nor wrong. Keypoints that nobody has labelled are left out of the table.
    """
    truth = keypoint_truth(annotations)
    results = coco_results(predictions, sigmas, use_nms=use_nms)
    table = {}
    for index, name in enumerate(names):
        alone = [_only_keypoint(entry, index) for entry in truth["annotations"]]
        if not any(entry["num_keypoints"] for entry in alone):
            continue
        single = open_index({**truth, "annotations": alone})
        table[name] = float(summarize(single, results, sigmas)[0])
    return table


def _only_keypoint(annotation: Mapping, index: int) -> dict:
    points = np.asarray(annotation["keypoints"], float).reshape(-1, 3).copy()
    points[np.arange(len(points)) != index, 2] = 0
    seen = int((points[:, 2] > 0).sum())
    crowd = annotation["iscrowd"] if seen else 1
    keypoints = points.reshape(-1).tolist()
    return {**annotation, "keypoints": keypoints, "num_keypoints": seen, "iscrowd": crowd}


def summarize(
    truth: COCO,
    results: list[dict],
    sigmas: np.ndarray,
    image_ids: Sequence[int] | None = None,
) -> np.ndarray:
    """COCOeval of result dicts -> its ten stats (all zero when nothing was predicted)."""
    if not results:
        return np.zeros(len(STAT_NAMES))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)
