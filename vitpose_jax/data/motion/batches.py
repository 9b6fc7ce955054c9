"""Training batches of motion, with grain."""

import dataclasses
import logging

import grain
import numpy as np

from vitpose_jax.data.motion.augmentation import AugmentMotion, Batch, MotionAugmentation
from vitpose_jax.data.motion.windows import MotionWindows

log = logging.getLogger(__name__)


def train_batches(
    windows: MotionWindows,
    batch_size: int,
    *,
    seed: int = 0,
    augmentation: MotionAugmentation | None = None,
    flip_index: np.ndarray | None = None,
    shard: tuple[int, int] = (0, 1),
) -> grain.IterDataset[Batch]:
    """Endless shuffled, augmented batches, each a function of the seed and its position.

    Args:
        windows: where the samples come from.
        batch_size: samples per batch of this shard.
        seed: for the order and the augmentation.
        augmentation: None for none.
        flip_index: (J,); without it nothing is mirrored.
        shard: (this process, number of processes).
    """
    index, count = shard
    order = grain.MapDataset.range(len(windows)).seed(seed).shuffle().repeat()
    batches = order[index::count].batch(batch_size).map(windows.take)
    if augmentation is None:
        batches = batches.map(_without_views)
    else:
        if augmentation.view and windows.dims == 2 and "world" not in windows[0]:
            log.info("these tracks have no 3D joints: they are not shown from other sides")
        if flip_index is None:
            flip_index = np.arange(windows.num_joints)
            augmentation = dataclasses.replace(augmentation, flip=0.0)
        batches = batches.random_map(AugmentMotion(augmentation, flip_index))
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))


def _without_views(batch: Batch) -> Batch:
    return {key: values for key, values in batch.items() if key not in ("world", "cameras")}
