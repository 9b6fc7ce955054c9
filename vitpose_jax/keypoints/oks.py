"""The score of a whole person, from those of the box and of the keypoints."""

import numpy as np

KEYPOINT_SCORE_THRESHOLD = 0.2
"""The original's (`vis_thr` of `TopDownCocoDataset`)."""


def person_scores(
    keypoint_scores: np.ndarray,
    box_scores: np.ndarray,
    threshold: float = KEYPOINT_SCORE_THRESHOLD,
) -> np.ndarray:
    """Box score x mean of the keypoint scores above `threshold` (0 when none is).

    keypoint_scores (N, K), box_scores (N,) -> (N,) float64.
    """
    keypoint_scores = np.asarray(keypoint_scores, np.float64)
    counted = keypoint_scores > threshold
    total = np.where(counted, keypoint_scores, 0.0).sum(axis=-1)
    return np.asarray(box_scores, np.float64) * total / np.maximum(counted.sum(axis=-1), 1)
