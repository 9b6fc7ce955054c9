"""Random placement of the crop in training: shift, flip, half body, scale, rotation.

The original flips the whole image and warps it afterwards. Here all steps are composed into one
affine map from the original image to the crop, so that the image is resampled only once.
"""

from dataclasses import dataclass

import numpy as np

from vitpose_jax.data.people import People
from vitpose_jax.keypoints.crops import box_to_center_scale, udp_affine
from vitpose_jax.keypoints.skeletons import Skeleton


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and ranges of the placement; the defaults are the original's (mmpose 0.24).

    Attributes:
        shift_probability: of shifting the centre, before all other steps.
        shift: width of the shift's uniform range, in box sizes (0.4: from -0.2 to 0.2).
        flip_probability: of mirroring the image.
        half_body_probability: of cropping only the upper or the lower body.
        half_body_min_keypoints: half-body crops need more labelled keypoints than this.
        scale: the region is scaled by clip(1 + scale n, 1 - scale, 1 + scale), n standard normal.
        rotation: degrees; the angle is clip(rotation n, -2 rotation, 2 rotation).
        rotation_probability: of rotating the region at all.
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
    """Where B crops lie in their original images (in the mirrored image where `flip`).

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
    """The affine maps of B crops, and their keypoints.

    Attributes:
        matrix: float64 (B, 2, 3), original image (not mirrored) -> crop.
        crop_xy: float32 (B, K, 2), keypoints in crop pixels, including unlabelled ones.
        visible: float32 (B, K), left and right swapped where mirrored.
    """

    matrix: np.ndarray
    crop_xy: np.ndarray
    visible: np.ndarray


_UNIFORM = ("shift", "shift_x", "shift_y", "flip", "half_body", "rotate", "person")
_NORMAL = ("which_half", "scale", "rotation")


def draw_numbers(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw the random numbers of `count` samples: float64 (count, 10), 7 uniform, 3 normal."""
    uniform, normal = rng.random((count, len(_UNIFORM))), rng.standard_normal((count, len(_NORMAL)))
    return np.concatenate([uniform, normal], axis=1)


def person_number(numbers: np.ndarray) -> float:
    """The one of a sample's numbers (10,), in [0, 1), that picks one of several people."""
    return numbers[_UNIFORM.index("person")]


def unaugmented(box: np.ndarray, input_size: tuple[int, int]) -> Placements:
    """Place upright crops around boxes (B, 4), as in evaluation."""
    center, scale = box_to_center_scale(box, input_size)
    return Placements(center, scale, np.zeros(len(box)), np.zeros(len(box), bool))


def _mirror(people: People, flip: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and visibility, mirrored and with left and right swapped where `flip` (B,).

    As in the original, mirroring sets unlabelled keypoints to (0, 0).
    """
    keypoints, visible = people.keypoints.copy(), people.visible.copy()
    visible[flip] = visible[flip][:, skeleton.flip_index]
    mirrored = keypoints[flip][:, skeleton.flip_index]
    mirrored[..., 0] = people.image_wh[flip, 0, None] - 1 - mirrored[..., 0]
    keypoints[flip] = mirrored * (visible[flip][..., None] > 0)
    return keypoints, visible


def place_keypoints(
    placements: Placements, people: People, input_size: tuple[int, int], skeleton: Skeleton
) -> CropGeometry:
    """Compute the crops' affine maps, including mirroring, and the keypoints on the crops.

    Args:
        placements: where the crops lie.
        people: B people.
        input_size: (height, width) of the crops.
        skeleton: tells left from right.
    """
    flip, image_width = placements.flip, people.image_wh[:, 0]
    matrix = udp_affine(placements.center, placements.scale, placements.rotation, input_size)
    keypoints, visible = _mirror(people, flip, skeleton)
    crop_xy = keypoints @ matrix[:, :, :2].transpose(0, 2, 1) + matrix[:, None, :, 2]
    matrix = matrix.astype(np.float64)
    matrix[flip, :, 2] += matrix[flip, :, 0] * (image_width[flip, None] - 1)
    matrix[flip, :, 0] *= -1
    return CropGeometry(matrix, crop_xy.astype(np.float32), visible)


def draw_placements(
    augmentation: Augmentation,
    numbers: np.ndarray,
    people: People,
    input_size: tuple[int, int],
    skeleton: Skeleton,
) -> Placements:
    """Place augmented crops by the original's steps, in its order.

    Args:
        augmentation: ranges and probabilities.
        numbers: (B, 10), from `draw_numbers`.
        people: B people.
        input_size: (height, width) of the crops.
        skeleton: tells upper from lower body, and left from right.
    """
    drawn = dict(zip(_UNIFORM + _NORMAL, numbers.T, strict=True))
    center, scale = box_to_center_scale(people.box, input_size)
    shift = augmentation.shift * (np.stack([drawn["shift_x"], drawn["shift_y"]], -1) - 0.5)
    shifted = drawn["shift"] < augmentation.shift_probability
    center = center + shifted[:, None] * shift * people.box[:, 2:]

    flip = drawn["flip"] < augmentation.flip_probability
    keypoints, visible = _mirror(people, flip, skeleton)
    center[flip, 0] = people.image_wh[flip, 0] - 1 - center[flip, 0]

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
    """Bounding box (n, 4) and mean (n, 2) of half a body's labelled keypoints; which are usable.

    The original prefers the upper body if a standard normal number is below 0.5 (in 69% of cases),
    and takes the other half if the preferred one has fewer than three keypoints. The last value,
    bool (n,), is false where too few keypoints are labelled, or where all share one position (at
    which the original divides by zero).
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
