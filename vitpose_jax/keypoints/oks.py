"""How alike two poses are (object keypoint similarity, OKS), and the score of a whole person."""

import numpy as np

KEYPOINT_SCORE_THRESHOLD = 0.2
"""`vis_thr` of the original's `TopDownCocoDataset`."""

NMS_THRESHOLD = 0.9
"""`oks_thr` of the original's configurations."""


def object_keypoint_similarity(
    person: np.ndarray, others: np.ndarray, area: float, areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """OKS between one prediction (K, 2) and others (N, K, 2), in the mean of both areas -> (N,)."""
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    squared = ((others.astype(np.float64) - person) ** 2).sum(axis=-1)
    mean_area = (area + areas) / 2 + np.spacing(1)
    return np.exp(-squared / variances / mean_area[:, None] / 2).mean(axis=-1)


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: np.ndarray,
    threshold: float = NMS_THRESHOLD,
) -> np.ndarray:
    """Greedy non-maximum suppression within one image: the rows kept, best first.

    keypoints (N, K, 2) and areas (N,) in pixels, scores (N,). A person is dropped whose OKS to a
    better one that was kept exceeds `threshold`.
    """
    order = np.argsort(scores)[::-1]
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        similarity = object_keypoint_similarity(
            keypoints[best], keypoints[rest], areas[best], areas[rest], sigmas
        )
        order = rest[similarity <= threshold]
    return np.asarray(kept, dtype=np.int64)


def person_scores(
    keypoint_scores: np.ndarray,
    box_scores: np.ndarray,
    threshold: float = KEYPOINT_SCORE_THRESHOLD,
) -> np.ndarray:
    """Box score times the mean of the keypoint scores above `threshold` (0 when none is).

    keypoint_scores (N, K), box_scores (N,) -> (N,) float64.
    """
    keypoint_scores = np.asarray(keypoint_scores, np.float64)
    counted = keypoint_scores > threshold
    total = np.where(counted, keypoint_scores, 0.0).sum(axis=-1)
    return np.asarray(box_scores, np.float64) * total / np.maximum(counted.sum(axis=-1), 1)
