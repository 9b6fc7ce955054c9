"""Batches of people for training and evaluation, as grain data sets."""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import grain
import numpy as np
from absl import flags

from vitpose_jax.data.augmentation import Augmentation, draw_numbers
from vitpose_jax.data.coco.detections import detected_people
from vitpose_jax.data.dataset import PoseDataset, TrainingCrops
from vitpose_jax.data.samples import Batch, PersonCrops
from vitpose_jax.errors import UserError


class _Draws:
    """Endless batches of rows, every epoch in its own order, with each sample's random numbers.

    Both are looked up in one table per epoch. grain's own shuffle and random_map work index by
    index. That takes a tenth as long as reading and warping a crop from a record and, with few
    rows, longer than decoding a photograph (the shuffle then walks a cipher of 2^16 steps).
    """

    def __init__(self, num_rows: int, seed: int, batch_size: int, shard: tuple[int, int]) -> None:
        self._num_rows, self._seed = num_rows, seed
        self._batch_size, (self._shard, self._num_shards) = batch_size, shard

    def __len__(self) -> int:
        return sys.maxsize // (self._batch_size * self._num_shards)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        places = int(index) * self._batch_size + np.arange(self._batch_size)
        epochs, places = np.divmod(places * self._num_shards + self._shard, self._num_rows)
        rows, numbers = [], []
        for epoch in np.unique(epochs).tolist():
            order, table = _epoch(self._num_rows, self._seed, epoch)
            rows.append(order[places[epochs == epoch]])
            numbers.append(table[places[epochs == epoch]])
        return {"row": np.concatenate(rows), "numbers": np.concatenate(numbers)}


@lru_cache(maxsize=3)
def _epoch(num_rows: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """An epoch's order of rows, and the random numbers of each of its samples."""
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(num_rows), draw_numbers(rng, num_rows)


class _TrainingBatch(grain.transforms.Map):
    def __init__(self, crops: TrainingCrops, augmentation: Augmentation) -> None:
        self._crops, self._augmentation = crops, augmentation

    def map(self, drawn: Mapping[str, np.ndarray]) -> Batch:
        return self._crops.training_batch(drawn["row"], drawn["numbers"], self._augmentation)


def _read_options(num_threads: int | None) -> grain.ReadOptions:
    """Each thread makes whole batches, and one batch per thread is prepared ahead."""
    threads = min(16, os.cpu_count() or 1) if num_threads is None else num_threads
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)


def train_batches(
    dataset: PoseDataset,
    batch_size: int,
    *,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    shard: tuple[int, int] = (0, 1),
    num_threads: int | None = None,
    num_workers: int = 0,
) -> grain.IterDataset[Batch]:
    """Endless shuffled, augmented batches.

    Every sample is a function of `seed` and its position in the stream: neither threads nor worker
    processes change it, and step i of n shards of batch size b sees the same people as step i of
    one shard of batch size n b.

    Args:
        dataset: from `open_pose_dataset`.
        batch_size: people per batch of this shard.
        seed: for the order and the augmentation.
        augmentation: the original's by default.
        shard: (this process, number of processes).
        num_threads: threads that prepare batches; 0 prepares them on demand. By default one per
            core, at most 16.
        num_workers: processes that prepare batches; 0 uses threads alone.

    Returns:
        An iterable whose iterators can be checkpointed (`get_state`, `set_state`).
    """
    batches = (
        grain.MapDataset.source(_Draws(len(dataset), seed, batch_size, shard))
        .map(_TrainingBatch(dataset.training_crops(), augmentation or Augmentation()))
        .to_iter_dataset(_read_options(num_threads))
    )
    if num_workers:
        if not flags.FLAGS.is_parsed():  # grain reads flags when it starts processes
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
    return batches


class EvalBatches:
    """Batches of a data set's people, each once and in order; the length counts batches."""

    def __init__(
        self, crops: PersonCrops, batch_size: int, shard: tuple[int, int], num_threads: int | None
    ) -> None:
        index, count = shard
        num_people = len(crops.people)
        padded = -(-num_people // (batch_size * count)) * batch_size * count
        rows = np.full(padded, -1)
        rows[:num_people] = np.arange(num_people)
        mine = rows[index::count].reshape(-1, batch_size)
        self._batches = grain.MapDataset.source(mine).map(crops.evaluation_batch)
        self._read_options = _read_options(num_threads)
        self.people = crops.people

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches.to_iter_dataset(self._read_options))


def eval_batches(
    dataset: PoseDataset,
    batch_size: int,
    *,
    boxes: str = "gt",
    min_box_score: float = 0.0,
    shard: tuple[int, int] = (0, 1),
    num_threads: int | None = None,
) -> EvalBatches:
    """Every person once, in order, without augmentation.

    All shards get the same number of full batches; `valid` is false on the padding.

    Args:
        dataset: from `open_pose_dataset`.
        batch_size: people per batch of this shard.
        boxes: "gt" for the annotated boxes, else the path of a detections file in COCO's form.
        min_box_score: detections with a lower score are left out.
        shard: (this process, number of processes).
        num_threads: as for `train_batches`.

    Raises:
        UserError: there is nobody to evaluate on, or the detections file is missing, malformed or
            belongs to another data set.
    """
    crops = dataset.crops()
    if boxes != "gt":
        crops = replace(crops, people=detected_people(dataset, boxes, min_box_score))
    if len(crops.people) == 0:
        raise UserError(f"{dataset.name}: there is nobody to evaluate on")
    return EvalBatches(crops, batch_size, shard, num_threads)
