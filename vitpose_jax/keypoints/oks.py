"""Object keypoint similarity (OKS) of two poses, and the score of a whole person."""

import numpy as np
from jaxtyping import Float, Float64, Int64

KEYPOINT_SCORE_THRESHOLD = 0.2
"""`vis_thr` of the original's `TopDownCocoDataset`."""

NMS_THRESHOLD = 0.9
"""`oks_thr` of the original's configurations."""


def object_keypoint_similarity(
    person: Float[np.ndarray, "keypoints 2"],
    others: Float[np.ndarray, "people keypoints 2"],
    area: float,
    areas: Float[np.ndarray, " people"],
    sigmas: Float[np.ndarray, " keypoints"],
) -> Float[np.ndarray, " people"]:
    """OKS between one prediction and others; each pair's area is the mean of the two areas."""
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    squared = ((others.astype(np.float64) - person) ** 2).sum(axis=-1)
    mean_area = (area + areas) / 2 + np.spacing(1)
    return np.exp(-squared / variances / mean_area[:, None] / 2).mean(axis=-1)


def oks_nms(
    keypoints: Float[np.ndarray, "people keypoints 2"],
    scores: Float[np.ndarray, " people"],
    areas: Float[np.ndarray, " people"],
    sigmas: Float[np.ndarray, " keypoints"],
    threshold: float = NMS_THRESHOLD,
) -> Int64[np.ndarray, " kept"]:
    """Greedy non-maximum suppression within one image: the rows kept, best first.

    A person is dropped if its OKS with a better person that was kept exceeds `threshold`.
    """
    order = np.argsort(scores)[::-1]
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        similarity = object_keypoint_similarity(
            keypoints[best], keypoints[rest], float(areas[best]), areas[rest], sigmas
        )
        order = rest[similarity <= threshold]
    return np.asarray(kept, dtype=np.int64)


def person_scores(
    keypoint_scores: Float[np.ndarray, "people keypoints"],
    box_scores: Float[np.ndarray, " people"],
    threshold: float = KEYPOINT_SCORE_THRESHOLD,
) -> Float64[np.ndarray, " people"]:
    """Box score times the mean of the keypoint scores above `threshold` (0 if none is)."""
    keypoint_scores = np.asarray(keypoint_scores, np.float64)
    counted = keypoint_scores > threshold
    total = np.where(counted, keypoint_scores, 0.0).sum(axis=-1)
    with np.errstate(over="ignore"):  # a file may give boxes any score
        return np.asarray(box_scores, np.float64) * total / np.maximum(counted.sum(axis=-1), 1)
