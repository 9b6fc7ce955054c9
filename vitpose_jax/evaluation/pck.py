"""PCK: the share of keypoints found within a fraction of the person's own size.

For data without the areas that COCO's OKS needs. Two yardsticks: the torso (Yang and Ramanan,
PAMI 2013: left shoulder to right hip, the Leeds convention) and the longer side of the person's
box (the PCK of the AI-challenger and animal data sets).
"""

from collections.abc import Sequence

import numpy as np

from vitpose_jax.errors import UserError

TORSO = ("left_shoulder", "right_hip")


def torso_sizes(keypoints: np.ndarray, visible: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Distance from left shoulder to right hip in pixels (N,); NaN where either is unlabelled.

    keypoints (N, K, 2) ground truth in original-image pixels, visible (N, K).
    Raises UserError when the skeleton has no such joints.
    """
    missing = [name for name in TORSO if name not in names]
    if missing:
        raise UserError(
            f"PCK by torso needs the keypoint {missing[0]!r}; the skeleton has "
            f"{', '.join(names)}. Use PCK by box instead."
        )
    shoulder, hip = (list(names).index(name) for name in TORSO)
    sizes = np.linalg.norm(keypoints[:, shoulder] - keypoints[:, hip], axis=-1)
    return np.where((visible[:, shoulder] > 0) & (visible[:, hip] > 0), sizes, np.nan)


def box_sizes(boxes: np.ndarray) -> np.ndarray:
    """Longer side of the boxes (N, 4) xywh -> (N,) pixels."""
    return np.maximum(boxes[:, 2], boxes[:, 3])


def judged_joints(visible: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N, K) bool: the labelled joints of people whose size is known.

    Raises UserError when there are none.
    """
    judged = (visible > 0) & (np.nan_to_num(sizes) > 0)[:, None]
    if not judged.any():
        raise UserError(
            f"PCK has nothing to judge: none of {len(visible)} people has labelled keypoints and a "
            "size (for PCK by torso a labelled left shoulder and right hip); choose another metric"
        )
    return judged


def pck(
    predicted: np.ndarray,
    keypoints: np.ndarray,
    visible: np.ndarray,
    sizes: np.ndarray,
    threshold: float = 0.2,
) -> tuple[float, np.ndarray]:
    """(overall, per keypoint (K,)) share of labelled keypoints within `threshold` x size.

    predicted and keypoints (N, K, 2) in the same pixels, visible (N, K), sizes (N,); people whose
    size is NaN or 0 are left out. The overall figure weighs every labelled joint the same; NaN
    for keypoints that nobody has labelled. Raises UserError when that leaves nothing to judge.
    """
    distance = np.linalg.norm(predicted - keypoints, axis=-1)
    judged = judged_joints(visible, sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        hit = (distance <= threshold * sizes[:, None]) & judged
        per_keypoint = hit.sum(axis=0) / judged.sum(axis=0)
        overall = hit.sum() / judged.sum()
    return float(overall), per_keypoint
