"""Random placement of the crop in training: shift, flip, half body, scale, rotation.

The original flips the whole image and warps it afterwards. Here all steps are drawn first and
composed into one affine map from the original image to the crop, so that pixels are touched once.
"""

from dataclasses import dataclass

import numpy as np

from vitpose_jax.keypoints.crops import box_to_center_scale, transform_points, udp_affine
from vitpose_jax.keypoints.skeletons import Skeleton


@dataclass(frozen=True)
class Augmentation:
    """How far a training crop may stray; the defaults are the original's (mmpose 0.24).

    Attributes:
        shift_probability: how often the centre is shifted, before everything else.
        shift: width of the shift's uniform range, in box sizes (0.4: from -0.2 to 0.2).
        flip_probability: how often the image is mirrored.
        half_body_probability: how often only the upper or the lower body is cropped, for people
            with more than `half_body_min_keypoints` labelled keypoints.
        half_body_min_keypoints: see above.
        scale: the region is scaled by clip(1 + scale n, 1 - scale, 1 + scale), n standard normal.
        rotation: degrees; the angle is clip(rotation n, -2 rotation, 2 rotation).
        rotation_probability: how often the region is rotated at all.
    """

    shift_probability: float = 0.3
    shift: float = 0.4
    flip_probability: float = 0.5
    half_body_probability: float = 0.3
    half_body_min_keypoints: int = 8
    scale: float = 0.5
    rotation: float = 40.0
    rotation_probability: float = 0.6


NO_AUGMENTATION = Augmentation(
    shift_probability=0.0,
    flip_probability=0.0,
    half_body_probability=0.0,
    scale=0.0,
    rotation_probability=0.0,
)


@dataclass(frozen=True)
class Placement:
    """Where a crop lies, in the (mirrored, if `flip`) original image.

    Attributes:
        center: float32 (2,), image pixels.
        scale: float32 (2,), (width, height) / 200.
        rotation: degrees.
        flip: whether the image is mirrored first.
    """

    center: np.ndarray
    scale: np.ndarray
    rotation: float = 0.0
    flip: bool = False


def flip_keypoints(
    keypoints: np.ndarray, visible: np.ndarray, image_width: int, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror keypoints (K, 2) and exchange left and right.

    As in the original, unlabelled keypoints become (0, 0).
    """
    mirrored = np.stack([image_width - 1 - keypoints[:, 0], keypoints[:, 1]], axis=-1)
    mirrored = mirrored[skeleton.flip_index]
    visible = visible[skeleton.flip_index]
    return mirrored * (visible[:, None] > 0), visible


def crop_keypoints(
    placement: Placement,
    keypoints: np.ndarray,
    visible: np.ndarray,
    image_width: int,
    input_size: tuple[int, int],
    skeleton: Skeleton,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The crop's affine map, and the keypoints on it.

    Args:
        placement: where the crop lies.
        keypoints: (K, 2), original image pixels.
        visible: (K,).
        image_width: of the original image.
        input_size: (height, width) of the crop.
        skeleton: whose left and right to exchange.

    Returns:
        matrix: float64 (2, 3), original image (not mirrored) -> crop.
        crop_xy: float32 (K, 2), unlabelled keypoints included.
        visible: (K,).
    """
    matrix = udp_affine(placement.center, placement.scale, placement.rotation, input_size)
    if placement.flip:
        keypoints, visible = flip_keypoints(keypoints, visible, image_width, skeleton)
    crop_xy = transform_points(keypoints, matrix)
    matrix = matrix.astype(np.float64)
    if placement.flip:
        matrix[:, 2] += matrix[:, 0] * (image_width - 1)
        matrix[:, 0] = -matrix[:, 0]
    return matrix, crop_xy, visible


def draw_placement(
    augmentation: Augmentation,
    box: np.ndarray,
    keypoints: np.ndarray,
    visible: np.ndarray,
    image_width: int,
    input_size: tuple[int, int],
    skeleton: Skeleton,
    rng: np.random.Generator,
) -> Placement:
    """Draw where the crop of a person lies, in the original's order.

    Args:
        augmentation: ranges and probabilities.
        box: (4,), cleaned, original image pixels.
        keypoints: (K, 2), original image pixels.
        visible: (K,).
        image_width: of the original image.
        input_size: (height, width) of the crop.
        skeleton: for the half body and the flip.
        rng: the sample's own.
    """
    center, scale = box_to_center_scale(box, input_size)
    if rng.random() < augmentation.shift_probability:
        center = center + augmentation.shift * (rng.random(2) - 0.5) * box[2:]
    flip = rng.random() < augmentation.flip_probability
    if flip:
        keypoints, visible = flip_keypoints(keypoints, visible, image_width, skeleton)
        center = np.array([image_width - 1 - center[0], center[1]])
    if (
        np.count_nonzero(visible) > augmentation.half_body_min_keypoints
        and rng.random() < augmentation.half_body_probability
    ):
        half = _half_body(keypoints, visible, input_size, skeleton, rng)
        if half is not None:
            center, scale = half
    spread = augmentation.scale
    scale = scale * np.clip(1 + spread * rng.standard_normal(), 1 - spread, 1 + spread)
    rotation = 0.0
    if rng.random() < augmentation.rotation_probability:
        limit = 2 * augmentation.rotation
        rotation = float(np.clip(augmentation.rotation * rng.standard_normal(), -limit, limit))
    return Placement(center.astype(np.float32), scale.astype(np.float32), rotation, flip)


def _half_body(
    keypoints: np.ndarray,
    visible: np.ndarray,
    input_size: tuple[int, int],
    skeleton: Skeleton,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Centre and scale around the upper or lower body's labelled keypoints.

    The original compares a standard normal draw with 0.5, so the upper body is preferred in 69% of
    the cases; the region is 1.5 times the keypoints' extent. None where too few are labelled, or
    (not in the original, which divides by zero there) where they all share one place.
    """
    is_upper = np.isin(np.arange(len(keypoints)), skeleton.upper_body)
    upper, lower = keypoints[(visible > 0) & is_upper], keypoints[(visible > 0) & ~is_upper]
    if rng.standard_normal() < 0.5 and len(upper) > 2:
        chosen = upper
    else:
        chosen = lower if len(lower) > 2 else upper
    if len(chosen) < 2:
        return None
    low, high = chosen.min(axis=0), chosen.max(axis=0)
    if not np.any(high > low):
        return None
    _, scale = box_to_center_scale(np.concatenate([low, high - low]), input_size, padding=1.5)
    return chosen.mean(axis=0), scale
