"""Motion data sets by name, their augmentation, and training batches with grain."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import grain
import numpy as np

from vitpose_jax.data.motion import threedpw
from vitpose_jax.data.motion.viewpoints import fit_face, lift_coco, turn
from vitpose_jax.data.motion.windows import MotionTrack, MotionWindows
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]


SAMPLE_KEYS = ("observed", "observed_visible", "future", "future_visible")


@dataclasses.dataclass(frozen=True)
class MotionSource:
    """What a kind of input is made of.

    Attributes:
      tracks: sequence -> its tracks; None where they are not taken from sequences alone.
      joint_names: J names.
      flip_pairs: left-right joint pairs.
      dims: 2 (pixels) or 3 (metres).
    """

    tracks: Callable[[threedpw.Sequence], list[MotionTrack]] | None
    joint_names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    dims: int

    @property
    def flip_index(self) -> np.ndarray:
        index = np.arange(len(self.joint_names))
        for a, b in self.flip_pairs:
            index[[a, b]] = b, a
        return index


_COCO = SKELETONS["coco"]
_SMPL_PAIRS = tuple((a, int(b)) for a, b in enumerate(threedpw.SMPL_FLIP_INDEX) if a < b)

INPUTS: dict[str, MotionSource] = {
    "detections": MotionSource(
        threedpw.detection_tracks, _COCO.keypoint_names, _COCO.flip_pairs, 2
    ),
    "projected": MotionSource(threedpw.projected_tracks, threedpw.SMPL_JOINTS, _SMPL_PAIRS, 2),
    "joints3d": MotionSource(threedpw.joint_tracks, threedpw.SMPL_JOINTS, _SMPL_PAIRS, 3),
    "keypoints": MotionSource(None, _COCO.keypoint_names, _COCO.flip_pairs, 2),
    "synthetic": MotionSource(None, _COCO.keypoint_names, _COCO.flip_pairs, 2),
}
"""What can be forecast: the file's 2D detections, its 3D joints seen through the camera, these
joints themselves, keypoints of our own pose model (`vitpose prepare-3dpw`), synthetic motion."""


def open_tracks(folder: str | Path, split: str, kind: str = "detections") -> list[MotionTrack]:
    """The tracks of a split.

    Args:
      folder: the one with `sequenceFiles`; not looked at for synthetic motion.
      split: train, validation or test.
      kind: a name in INPUTS.

    Raises:
      UserError: unknown names, missing or damaged files.
    """
    if kind not in INPUTS:
        raise UserError(f"no input {kind!r}; choose one of {', '.join(INPUTS)}")
    if kind == "synthetic":
        from vitpose_jax.data.motion.synthetic import synthetic_tracks

        return synthetic_tracks(split)
    if kind == "keypoints":
        from vitpose_jax.data.motion.threedpw_keypoints import keypoint_tracks

        return keypoint_tracks(folder, split)
    sequences = threedpw.read_split(folder, split)
    if split != "train" or kind == "joints3d":
        return [track for sequence in sequences for track in INPUTS[kind].tracks(sequence)]
    return _with_views(sequences, kind)


def _with_views(sequences: list[threedpw.Sequence], kind: str) -> list[MotionTrack]:
    """2D tracks with what it takes to see them from other sides."""
    face = fit_face(sequences) if kind == "detections" else None
    tracks = []
    for sequence in sequences:
        cameras = (sequence.intrinsics @ sequence.cam_poses[:, :3]).astype(np.float32)
        for index, track in enumerate(INPUTS[kind].tracks(sequence)):
            actor = sequence.actors[index]
            world = actor.joints3d if face is None else lift_coco(actor, face)
            world = np.where(sequence.cam_valid[index][:, None, None], world, np.nan)
            tracks.append(dataclasses.replace(track, world=world, cameras=cameras))
    return tracks


@dataclasses.dataclass(frozen=True)
class MotionAugmentation:
    """Random changes that leave a motion plausible; every number is 0 to switch its part off.

    Attributes:
      flip: probability of mirroring.
      reverse: probability of playing the motion backwards.
      view: probability of seeing the people from another side, by any angle about the vertical
        axis. In 2D for tracks that know their joints in the world only.
      rotation: standard deviation in radians, in the image plane (2D only).
      stretch: standard deviation of the logarithm of the width; stands for other body shapes and
        slight turns.
      drift: standard deviation of a constant velocity added to all joints, in person sizes per
        ten frames; stands for other camera motion.
      scale: standard deviation of the logarithm of the size. Idle for a scale-normalised model.
      missing: probability that a sample loses joints, each with probability 0.3, from a random
        frame on.
      paces: how many times as fast all motion is shown as well. Not a change of batches: they are
        made of tracks that `at_pace` has added.
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

    def random_map(self, batch: Batch, rng: np.random.Generator) -> Batch:
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


def train_batches(
    windows: MotionWindows,
    batch_size: int,
    *,
    seed: int = 0,
    augmentation: MotionAugmentation | None = None,
    flip_index: np.ndarray | None = None,
    shard: tuple[int, int] = (0, 1),
) -> grain.IterDataset[Batch]:
    """Endless shuffled, augmented batches; a batch is a function of seed and place in the stream.

    Args:
      windows: where the samples come from.
      batch_size: samples a batch of this shard.
      seed: of order and augmentation.
      augmentation: None for none.
      flip_index: (J,), needed to mirror.
      shard: (this process, number of processes).
    """
    index, count = shard
    order = grain.MapDataset.range(len(windows)).seed(seed).shuffle().repeat()
    batches = order[index::count].batch(batch_size).map(windows.take)
    if augmentation is not None:
        if augmentation.view and windows.dims == 2 and "world" not in windows[0]:
            log.info("these tracks know no 3D joints: no views from other sides")
        if flip_index is None:
            flip_index = np.arange(windows.num_joints)
            augmentation = dataclasses.replace(augmentation, flip=0.0)
        batches = batches.random_map(AugmentMotion(augmentation, flip_index))
    else:
        batches = batches.map(lambda batch: {key: batch[key] for key in SAMPLE_KEYS})
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))


def _rotations(angles: np.ndarray, dims: int) -> np.ndarray:
    """(B,) radians -> (B, D, D): in the plane, or about the second axis in 3D."""
    cos, sin = np.cos(angles), np.sin(angles)
    matrices = np.zeros((len(angles), dims, dims), np.float32)
    first, second = (0, 1) if dims == 2 else (0, 2)
    if dims == 3:
        matrices[:, 1, 1] = 1
    matrices[:, first, first] = matrices[:, second, second] = cos
    matrices[:, first, second], matrices[:, second, first] = -sin, sin
    return matrices


def _drift(x: np.ndarray, seen: np.ndarray, velocity: np.ndarray, now: int) -> np.ndarray:
    """A steady shift of everything, 0 at the last observed frame: (B, T, 1, D)."""
    count = np.maximum(seen.sum((1, 2)), 1)[:, None, None, None]
    mask = seen[..., None]
    centre = np.where(mask, x, 0).sum((1, 2), keepdims=True) / count
    spread = np.where(mask, np.square(x - centre), 0).sum((1, 2, 3), keepdims=True) / count
    time = (np.arange(x.shape[1]) - (now - 1))[None, :, None, None] / 10
    return np.sqrt(spread) * velocity * time


def _lose_joints(seen: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(B, n, J): in a share of the samples, 30% of the joints vanish from some frame on."""
    size, frames, joints = seen.shape
    lost = (rng.random((size, 1, joints)) < 0.3) & (rng.random((size, 1, 1)) < share)
    since = rng.integers(0, frames, (size, 1, 1))
    return seen & ~(lost & (np.arange(frames)[None, :, None] >= since))
