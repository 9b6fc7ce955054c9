"""PCK: the percentage of correct keypoints, those within a fraction of the person's size.

It is for data without the areas that COCO's OKS needs. The size is that of the torso (Yang and
Ramanan, PAMI 2013: left shoulder to right hip, the Leeds convention) or the longer side of the
person's box (as for AI Challenger and the animal data sets).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from vitpose_jax.errors import UserError

TORSO = ("left_shoulder", "right_hip")


def torso_sizes(
    keypoints: Float[np.ndarray, "people keypoints 2"],
    visible: Float[np.ndarray, "people keypoints"],
    names: Sequence[str],
) -> Float[np.ndarray, " people"]:
    """Annotated distances from left shoulder to right hip; NaN where either is unlabelled.

    Raises:
        UserError: the skeleton lacks one of the two.
    """
    missing = [name for name in TORSO if name not in names]
    if missing:
        raise UserError(
            f"PCK by torso needs the keypoint {missing[0]!r}; the skeleton has only "
            f"{', '.join(names)}. Use PCK by box instead."
        )
    shoulder, hip = (list(names).index(name) for name in TORSO)
    sizes = np.linalg.norm(keypoints[:, shoulder] - keypoints[:, hip], axis=-1)
    return np.where((visible[:, shoulder] > 0) & (visible[:, hip] > 0), sizes, np.nan)


def box_sizes(boxes: Float[np.ndarray, "people 4"]) -> Float[np.ndarray, " people"]:
    """The longer sides of boxes (x, y, width, height)."""
    return np.maximum(boxes[:, 2], boxes[:, 3])


def judged_joints(
    visible: Float[np.ndarray, "people keypoints"], sizes: Float[np.ndarray, " people"]
) -> Bool[np.ndarray, "people keypoints"]:
    """The labelled joints of people whose size is known.

    Raises:
        UserError: there are none.
    """
    judged = (visible > 0) & (np.nan_to_num(sizes) > 0)[:, None]
    if not judged.any():
        raise UserError(
            f"PCK has nothing to judge: none of {len(visible)} people has labelled keypoints and a "
            "size (PCK by torso needs a labelled left shoulder and right hip); choose another "
            "metric"
        )
    return judged


def pck(
    predicted: Float[np.ndarray, "people keypoints 2"],
    keypoints: Float[np.ndarray, "people keypoints 2"],
    visible: Float[np.ndarray, "people keypoints"],
    sizes: Float[np.ndarray, " people"],
    threshold: float = 0.2,
) -> tuple[float, Float[np.ndarray, " keypoints"]]:
    """The share of labelled keypoints within `threshold` times the person's size.

    People whose size is NaN or 0 are left out.

    Returns:
        The share over all keypoints, each labelled joint with equal weight, and the share for each
        keypoint, NaN if it is never labelled.

    Raises:
        UserError: nothing is left to judge.
    """
    distance = np.linalg.norm(predicted - keypoints, axis=-1)
    judged = judged_joints(visible, sizes)
    with np.errstate(invalid="ignore", divide="ignore"):
        hit = (distance <= threshold * sizes[:, None]) & judged
        return float(hit.sum() / judged.sum()), hit.sum(axis=0) / judged.sum(axis=0)
