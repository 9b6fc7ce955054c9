"""Random placement of the crop in training: shift, flip, half body, scale, rotation.

The original flips the whole image and warps it afterwards. Here all steps are drawn first and
composed into one affine map from the original image to the crop, so that pixels are touched once.
"""

from dataclasses import dataclass

import numpy as np

from vitpose_jax.keypoints.crops import box_to_center_scale, udp_affine
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
class Placements:
    """Where B crops lie, each in its (mirrored, if `flip`) original image.

    Attributes:
        center: float32 (B, 2), image pixels.
        scale: float32 (B, 2), (width, height) / PIXEL_STD.
        rotation: float64 (B,), degrees.
        flip: bool (B,), whether the image is mirrored first.
    """

    center: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray
    flip: np.ndarray


@dataclass(frozen=True)
class CropGeometry:
    """What follows from placements.

    Attributes:
        matrix: float64 (B, 2, 3), original image (not mirrored) -> crop.
        crop_xy: float32 (B, K, 2), keypoints on the crop, also of unlabelled ones.
        visible: float32 (B, K), left and right exchanged where mirrored.
    """

    matrix: np.ndarray
    crop_xy: np.ndarray
    visible: np.ndarray


_UNIFORM = ("shift", "shift_x", "shift_y", "flip", "half_body", "rotate", "person")
_NORMAL = ("which_half", "scale", "rotation")


def draw_numbers(rng: np.random.Generator, count: int) -> np.ndarray:
    """All that is random about samples: float64 (count, 10), 7 uniform and 3 normal numbers."""
    uniform, normal = rng.random((count, len(_UNIFORM))), rng.standard_normal((count, len(_NORMAL)))
    return np.concatenate([uniform, normal], axis=1)


def _named(numbers: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(_UNIFORM + _NORMAL, numbers.T, strict=True))


def person_number(numbers: np.ndarray) -> float:
    """The number (in [0, 1)) that picks one of several people; see `draw_numbers`."""
    return numbers[_UNIFORM.index("person")]


def unaugmented(box: np.ndarray, input_size: tuple[int, int]) -> Placements:
    """Upright crops around boxes (B, 4), as in evaluation."""
    center, scale = box_to_center_scale(box, input_size)
    return Placements(center, scale, np.zeros(len(box)), np.zeros(len(box), bool))


def flip_keypoints(
    keypoints: np.ndarray, visible: np.ndarray, image_width: np.ndarray, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror keypoints (B, K, 2) on images of width (B,) and exchange left and right.

    As in the original, unlabelled keypoints become (0, 0).
    """
    visible = visible[:, skeleton.flip_index]
    mirrored = keypoints[:, skeleton.flip_index]
    mirrored[..., 0] = image_width[:, None] - 1 - mirrored[..., 0]
    return mirrored * (visible[..., None] > 0), visible


def place_keypoints(
    placements: Placements,
    keypoints: np.ndarray,
    visible: np.ndarray,
    image_width: np.ndarray,
    input_size: tuple[int, int],
    skeleton: Skeleton,
) -> CropGeometry:
    """The crops' affine maps, with the mirroring in them, and the keypoints on the crops.

    Args:
        placements: where the crops lie.
        keypoints: (B, K, 2), original image pixels.
        visible: (B, K).
        image_width: (B,), of the original images.
        input_size: (height, width) of the crops.
        skeleton: whose left and right to exchange.
    """
    flip = placements.flip
    matrix = udp_affine(placements.center, placements.scale, placements.rotation, input_size)
    keypoints, visible = keypoints.copy(), visible.copy()
    keypoints[flip], visible[flip] = flip_keypoints(
        keypoints[flip], visible[flip], image_width[flip], skeleton
    )
    crop_xy = keypoints @ matrix[:, :, :2].transpose(0, 2, 1) + matrix[:, None, :, 2]
    matrix = matrix.astype(np.float64)
    matrix[flip, :, 2] += matrix[flip, :, 0] * (image_width[flip, None] - 1)
    matrix[flip, :, 0] *= -1
    return CropGeometry(matrix, crop_xy.astype(np.float32), visible)


def draw_placements(
    augmentation: Augmentation,
    numbers: np.ndarray,
    box: np.ndarray,
    keypoints: np.ndarray,
    visible: np.ndarray,
    image_width: np.ndarray,
    input_size: tuple[int, int],
    skeleton: Skeleton,
) -> Placements:
    """Where augmented crops lie; the steps are the original's, in its order.

    Args:
        augmentation: ranges and probabilities.
        numbers: (B, 10), see `draw_numbers`.
        box: (B, 4), cleaned, original image pixels.
        keypoints: (B, K, 2), original image pixels.
        visible: (B, K).
        image_width: (B,), of the original images.
        input_size: (height, width) of the crops.
        skeleton: for the half body and the flip.
    """
    drawn = _named(numbers)
    center, scale = box_to_center_scale(box, input_size)
    shift = augmentation.shift * (np.stack([drawn["shift_x"], drawn["shift_y"]], -1) - 0.5)
    shifted = drawn["shift"] < augmentation.shift_probability
    center = center + shifted[:, None] * shift * box[:, 2:]

    flip = drawn["flip"] < augmentation.flip_probability
    keypoints, visible = keypoints.copy(), visible.copy()
    keypoints[flip], visible[flip] = flip_keypoints(
        keypoints[flip], visible[flip], image_width[flip], skeleton
    )
    center[flip, 0] = image_width[flip] - 1 - center[flip, 0]

    enough = np.count_nonzero(visible, axis=1) > augmentation.half_body_min_keypoints
    halved = np.flatnonzero(enough & (drawn["half_body"] < augmentation.half_body_probability))
    if len(halved):
        upper_first = drawn["which_half"][halved] < 0.5
        boxes, centers, usable = _half_bodies(
            keypoints[halved], visible[halved] > 0, upper_first, skeleton
        )
        halved = halved[usable]
        center[halved] = centers[usable]
        scale[halved] = box_to_center_scale(boxes[usable], input_size, padding=1.5)[1]

    spread, limit = augmentation.scale, 2 * augmentation.rotation
    scale = scale * np.clip(1 + spread * drawn["scale"], 1 - spread, 1 + spread)[:, None]
    rotated = drawn["rotate"] < augmentation.rotation_probability
    rotation = np.clip(augmentation.rotation * drawn["rotation"], -limit, limit) * rotated
    return Placements(center.astype(np.float32), scale.astype(np.float32), rotation, flip)


def _half_bodies(
    keypoints: np.ndarray, labelled: np.ndarray, upper_first: np.ndarray, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Extent (n, 4) and mean (n, 2) of the upper or lower body's labelled keypoints.

    The original prefers the upper body where a standard normal number is below 0.5, which is in 69%
    of the cases, and takes the other half where the preferred has fewer than three keypoints. The
    last value, bool (n,), is false where too few are labelled, or (not in the original, which
    divides by zero there) where they all share one place.
    """
    is_upper = np.zeros(keypoints.shape[1], bool)
    is_upper[list(skeleton.upper_body)] = True
    upper, lower = labelled & is_upper, labelled & ~is_upper
    take_lower = (lower.sum(axis=1) > 2) & ~(upper_first & (upper.sum(axis=1) > 2))
    chosen = np.where(take_lower[:, None], lower, upper)[..., None]
    count = chosen.sum(axis=1)
    low = np.where(chosen, keypoints, np.inf).min(axis=1)
    high = np.where(chosen, keypoints, -np.inf).max(axis=1)
    usable = (count[:, 0] >= 2) & (high > low).any(axis=1)
    mean = np.where(chosen, keypoints, 0).sum(axis=1) / np.maximum(count, 1)
    return np.concatenate([low, high - low], axis=1), mean, usable
