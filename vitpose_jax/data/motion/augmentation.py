"""Random changes to motion that keep it plausible."""

import dataclasses
from collections.abc import Mapping

import grain
import numpy as np

from vitpose_jax.data.motion.viewpoints import turn

Batch = dict[str, np.ndarray]
"""Arrays of `MotionWindows.take`."""


@dataclasses.dataclass(frozen=True)
class MotionAugmentation:
    """How much motion is changed; 0 switches a change off.

    Attributes:
        flip: probability of mirroring.
        view: probability of seeing the people from another side, by any angle about the vertical
            axis. In 2D this works only for tracks with `world` and `cameras`.
        reverse: probability of playing the motion backwards.
        rotation: standard deviation in radians, in the image plane (2D only).
        stretch: standard deviation of the logarithm of the width; imitates other body shapes and
            slight turns.
        drift: standard deviation of a constant velocity added to all joints, in person sizes per
            ten frames; imitates other camera motion.
        scale: standard deviation of the logarithm of the size. It has no effect on a model that
            normalises the scale.
        missing: probability that a sample loses joints, each with probability 0.3, from a random
            frame on.
        paces: further speeds at which all motion is also shown. Applied to tracks (see `at_pace`),
            not to batches.
    """

    flip: float = 0.5
    view: float = 0.0
    reverse: float = 0.0
    rotation: float = 0.1
    stretch: float = 0.0
    drift: float = 0.0
    scale: float = 0.0
    missing: float = 0.0
    paces: tuple[float, ...] = ()


class AugmentMotion(grain.transforms.RandomMap):
    """Applies a MotionAugmentation to batches."""

    def __init__(self, augmentation: MotionAugmentation, flip_index: np.ndarray) -> None:
        self.augmentation, self.flip_index = augmentation, flip_index

    def random_map(self, batch: Mapping[str, np.ndarray], rng: np.random.Generator) -> Batch:
        """Change one batch."""
        options, n = self.augmentation, batch["observed"].shape[1]
        x = np.concatenate([batch["observed"], batch["future"]], axis=1)
        seen = np.concatenate([batch["observed_visible"], batch["future_visible"]], axis=1)
        size, dims = len(x), x.shape[-1]
        angles = rng.uniform(-np.pi, np.pi, size) * (rng.random(size) < options.view)
        if dims == 3:
            x = np.matmul(x, np.swapaxes(_rotations(angles, 3), 1, 2)[:, None])
        elif "world" in batch:
            x = turn(x, seen, batch["world"], batch["cameras"], angles)

        flipped = rng.random(size) < options.flip
        x[flipped] = x[flipped][:, :, self.flip_index]
        x[flipped, ..., 0] *= -1
        seen[flipped] = seen[flipped][:, :, self.flip_index]
        backwards = rng.random(size) < options.reverse
        x[backwards], seen[backwards] = x[backwards, ::-1], seen[backwards, ::-1]

        if dims == 2 and options.rotation:
            tilt = _rotations(rng.normal(0, options.rotation, size), 2)
            x = np.matmul(x, np.swapaxes(tilt, 1, 2)[:, None])
        if options.stretch:
            x[..., 0] *= np.exp(rng.normal(0, options.stretch, (size, 1, 1)))
        if options.scale:
            x *= np.exp(rng.normal(0, options.scale, (size, 1, 1, 1)))
        if options.drift:
            x += _drift(x, seen, rng.normal(0, options.drift, (size, 1, 1, dims)), n)

        x = np.where(seen[..., None], x, 0).astype(np.float32)
        return {
            "observed": x[:, :n],
            "observed_visible": _lose_joints(seen[:, :n], options.missing, rng),
            "future": x[:, n:],
            "future_visible": seen[:, n:],
        }


def _rotations(angles: np.ndarray, dims: int) -> np.ndarray:
    """Rotations (B, D, D) by radians (B,): in the plane, or about the second axis in 3D."""
    cos, sin = np.cos(angles), np.sin(angles)
    matrices = np.zeros((len(angles), dims, dims), np.float32)
    first, second = (0, 1) if dims == 2 else (0, 2)
    if dims == 3:
        matrices[:, 1, 1] = 1
    matrices[:, first, first] = matrices[:, second, second] = cos
    matrices[:, first, second], matrices[:, second, first] = -sin, sin
    return matrices


def _drift(x: np.ndarray, seen: np.ndarray, velocity: np.ndarray, now: int) -> np.ndarray:
    """A steady shift (B, T, 1, D) of all joints, 0 at the last observed frame."""
    count = np.maximum(seen.sum((1, 2)), 1)[:, None, None, None]
    mask = seen[..., None]
    centre = np.where(mask, x, 0).sum((1, 2), keepdims=True) / count
    spread = np.where(mask, np.square(x - centre), 0).sum((1, 2, 3), keepdims=True) / count
    time = (np.arange(x.shape[1]) - (now - 1))[None, :, None, None] / 10
    return np.sqrt(spread) * velocity * time


def _lose_joints(seen: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """In a share of the samples (B, n, J), hide 30% of the joints from some frame on."""
    size, frames, joints = seen.shape
    lost = (rng.random((size, 1, joints)) < 0.3) & (rng.random((size, 1, 1)) < share)
    since = rng.integers(0, frames, (size, 1, 1))
    return seen & ~(lost & (np.arange(frames)[None, :, None] >= since))
