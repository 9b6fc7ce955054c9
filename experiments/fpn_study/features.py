"""Frozen features, computed once for all rows of a seed.

A frozen backbone in inference form gives the same maps for the same crop whatever stands behind
it, and the training stream is a function of the seed alone. So rows that share data, seed and
backbone share their maps: these are kept on disk in the order in which the loop asks for them, and
the loop trains neck and decoder on them. Nothing else differs from training on the crops. To save
time, all seeds may share a store of fewer batches, which each goes through in its own order, and
several times if need be.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import ml_collections
import numpy as np
from flax import nnx
from tqdm import tqdm

from vitpose_jax.data.batches import eval_batches
from vitpose_jax.evaluation.coco import PosePredictions
from vitpose_jax.keypoints.crops import PIXEL_STD
from vitpose_jax.keypoints.decoding import flip_average
from vitpose_jax.keypoints.encoding import encode_heatmaps
from vitpose_jax.keypoints.normalization import normalize_crops
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.prediction import locate_keypoints
from vitpose_jax.tasks.losses import LOSSES, heatmap_accuracy
from vitpose_jax.tasks.pose_evaluation import score_predictions
from vitpose_jax.tasks.pose_settings import PoseSettings
from vitpose_jax.training.settings import read_part
from vitpose_jax.training.task import Problem

KEPT = ("crop", "crop_xy", "visible", "image_id")
AT_ONCE = 4  # batches that go through the backbone together


@nnx.jit(static_argnames=("blocks", "train"))
def block_outputs(
    model: PoseModel, crops: jax.Array, key: jax.Array, blocks: tuple[int, ...], train: bool
) -> list[jax.Array]:
    """Outputs (B, h, w, C) of some blocks, before the final norm, of uint8 crops."""
    crops = normalize_crops(crops, model.dtype)
    return model.backbone.with_taps(crops, blocks=blocks, train=train, key=key)[1]


class FeatureStore:
    """Arrays by name on disk, (rows, ...) each; made whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays = {
            file.stem: np.load(file, mmap_mode="r") for file in sorted(folder.glob("*.npy"))
        }

    @staticmethod
    def make(folder: Path, rows: int, batches: Iterator[Mapping[str, np.ndarray]]) -> FeatureStore:
        """Fill a new store from batches, unless it is there; `rows` is their total."""
        if folder.exists():
            return FeatureStore(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        arrays: dict[str, np.ndarray] = {}
        start = 0
        with tqdm(total=rows, unit="crops", disable=None, desc=folder.name) as bar:
            while start < rows:
                batch = next(batches)
                for name, values in batch.items():
                    if name not in arrays:
                        shape = (rows, *values.shape[1:])
                        arrays[name] = np.lib.format.open_memmap(
                            scratch / f"{name}.npy", "w+", values.dtype, shape
                        )
                    arrays[name][start : start + len(values)] = values[: rows - start]
                start += len(values)
                bar.update(len(values))
        for array in arrays.values():
            array.flush()
        try:
            scratch.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(scratch)
        return FeatureStore(folder)


class ReplayedBatches:
    """A store's training batches; the iterator's position can be saved and set.

    In the store's order, or with a seed in another one in every epoch.
    """

    def __init__(
        self, store: FeatureStore, names: tuple[str, ...], batch_size: int, seed: int | None = None
    ) -> None:
        self._arrays = {name: store.arrays[name] for name in names}
        self._size, self._seed, self._next = batch_size, seed, 0

    def __iter__(self) -> ReplayedBatches:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        rows = self._rows(self._next)
        self._next += 1
        return {name: np.asarray(array[rows]) for name, array in self._arrays.items()}

    def _rows(self, step: int) -> slice | np.ndarray:
        count = len(self._arrays["image_id"])
        epoch, place = divmod(step, count // self._size)
        rows = slice(place * self._size, (place + 1) * self._size)
        if self._seed is None:
            return rows
        return np.random.default_rng([self._seed, epoch]).permutation(count)[rows]

    def get_state(self) -> dict[str, int]:
        return {"next": self._next}

    def set_state(self, state: Mapping[str, int]) -> None:
        self._next = int(state["next"])


def on_features(
    task: Problem,
    config: ml_collections.ConfigDict,
    dataset,
    steps: int,
    folder: Path,
    shared_steps: int = 0,
) -> tuple[Problem, EvaluationOnFeatures | None]:
    """The pose task with its crops and its backbone's maps taken from `folder`.

    They are made first, where missing. A row that trains the backbone takes its crops only.

    Args:
        task, config: the row's.
        dataset: the validation split.
        steps: of the whole run.
        folder: of the stores.
        shared_steps: how many batches all seeds share; 0 for each seed's own, one for each step.
    """
    model = task.model
    neck, depth = model.config.neck, model.config.backbone.depth
    drop, taps = config.drop_in_frozen, neck.taps if neck else ()
    variant = "random_positions" if config.random_positions else "pretrained"
    # The blocks that any row reads: proportional thirds and the last three; or the last one alone.
    blocks: tuple[int, ...] = (depth - 1,)
    if taps:
        blocks = tuple(sorted({depth // 3 - 1, 2 * depth // 3 - 1, *range(depth - 3, depth)}))
    suffix = "_blocks" if taps else ""
    owner = "shared" if shared_steps else f"seed{config.seed}"
    own = f"_seed{config.seed}" if variant != "pretrained" else ""
    store = FeatureStore.make(
        folder / f"train_{variant}{'_drop' if drop else ''}{suffix}_{owner}",
        (shared_steps or steps) * config.batch_size,
        _training_maps(model, task.train_batches, blocks, drop, config.seed),
    )
    needed = tuple(f"block_{i}" for i in sorted({*taps, depth - 1}))
    trains_backbone = "backbone" not in config.frozen
    order = config.seed if shared_steps else None
    names = KEPT if trains_backbone else (*KEPT, *needed)
    batches = ReplayedBatches(store, names, config.batch_size, order)
    task = dataclasses.replace(task, train_batches=batches, draw=lambda model: None)
    if trains_backbone:
        return task, None
    evaluation = EvaluationOnFeatures(
        model, dataset, config, folder / f"val_{variant}{suffix}{own}", blocks
    )
    loss_fn = _loss_on_features(config)
    return dataclasses.replace(task, loss_fn=loss_fn, evaluate=evaluation.evaluate), evaluation


def _loss_on_features(config: ml_collections.ConfigDict):
    frozen_decoder = "decoder" in config.frozen

    def loss_fn(model: PoseModel, batch: Mapping[str, jax.Array], key: jax.Array):
        size = model.config
        targets, weights = encode_heatmaps(
            batch["crop_xy"], batch["visible"], size.input_size, size.heatmap_size, config.sigma
        )
        maps = _maps(model, batch)
        heatmaps = model.head(*maps, train=True, freeze_decoder=frozen_decoder)
        value = LOSSES[config.loss](heatmaps, targets, weights)
        return value, {"accuracy": heatmap_accuracy(heatmaps, targets, weights)}

    return loss_fn


def _maps(
    model: PoseModel, batch: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """The normalised crops, and what the backbone would hand on: its last map and tapped ones."""
    crops = normalize_crops(batch["crop"], model.dtype)
    neck, norm = model.config.neck, model.backbone.last_norm
    features = norm(batch[f"block_{model.config.backbone.depth - 1}"])
    if neck is None:
        return crops, features, []
    taps = [batch[f"block_{i}"] for i in neck.taps]
    return crops, features, [norm(tap) if neck.tap_norm else tap for tap in taps]


def _training_maps(
    model: PoseModel, batches, blocks: tuple[int, ...], drop: bool, seed: int
) -> Iterator[dict[str, np.ndarray]]:
    key, batches = jax.random.key(seed), iter(batches)
    for step in itertools.count():
        several = list(itertools.islice(batches, AT_ONCE))
        batch = {name: np.concatenate([b[name] for b in several]) for name in KEPT}
        maps = block_outputs(model, batch["crop"], jax.random.fold_in(key, step), blocks, drop)
        named = {f"block_{i}": np.asarray(x) for i, x in zip(blocks, maps, strict=True)}
        yield {name: batch[name] for name in KEPT} | named


class EvaluationOnFeatures:
    """The validation people's maps, upright and mirrored; scores a model's head on them.

    `predictions` holds those of the last evaluation.
    """

    BATCH = 64

    def __init__(self, model: PoseModel, dataset, config, folder: Path, blocks) -> None:
        self.dataset, self.settings = dataset, read_part(PoseSettings, config).eval
        self.flip = tuple(int(i) for i in dataset.skeleton.flip_index)
        batches = eval_batches(dataset, self.BATCH)
        count = len(batches) * self.BATCH
        self.store = FeatureStore.make(folder, count, self._maps(model, batches, blocks))
        neck = model.config.neck
        used = sorted({*(neck.taps if neck else ()), model.config.backbone.depth - 1})
        self.names = ["crop", *(f"{way}block_{i}" for way in ("", "mirrored_") for i in used)]
        self.predictions: PosePredictions | None = None

    def _maps(self, model, batches, blocks) -> Iterator[dict[str, np.ndarray]]:
        described = ("crop", "center", "scale", "box_score", "image_id", "annotation_id", "valid")
        key = jax.random.key(0)
        for batch in batches:
            row = {name: batch[name] for name in described}
            for way, crops in (("", batch["crop"]), ("mirrored_", batch["crop"][:, :, ::-1])):
                maps = block_outputs(model, np.ascontiguousarray(crops), key, blocks, False)
                row |= {f"{way}block_{i}": np.asarray(x) for i, x in zip(blocks, maps, strict=True)}
            yield row

    def evaluate(self, model: PoseModel) -> dict[str, float]:
        """The figures that the configuration's `eval.metrics` lists."""
        self.predictions = self.predict(model)
        return score_predictions(self.predictions, self.dataset, self.settings)

    def predict(self, model: PoseModel) -> PosePredictions:
        """Everybody's pose."""
        definition, state = nnx.split(model)
        arrays, found = self.store.arrays, []
        for start in range(0, len(arrays["valid"]), self.BATCH):
            rows = slice(start, start + self.BATCH)
            batch = {name: np.asarray(arrays[name][rows]) for name in self.names}
            batch |= {name: np.asarray(arrays[name][rows]) for name in ("center", "scale")}
            found.append(jax.device_get(_predict(definition, state, batch, self.flip)))
        valid = np.asarray(arrays["valid"])
        keypoints, scores = (np.concatenate(part)[valid] for part in zip(*found, strict=True))
        return PosePredictions(
            keypoints=keypoints,
            scores=scores,
            box_scores=arrays["box_score"][valid],
            areas=np.prod(arrays["scale"][valid] * PIXEL_STD, axis=-1),
            image_ids=arrays["image_id"][valid],
            person_ids=arrays["annotation_id"][valid],
        )


@jax.jit(static_argnames=("definition", "flip"))
def _predict(definition, state, batch, flip) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(definition, state)
    mirrored = {
        name.removeprefix("mirrored_"): x for name, x in batch.items() if "mirrored_" in name
    } | {"crop": batch["crop"][:, :, ::-1]}
    heatmaps = model.head(*_maps(model, batch))
    back = model.head(*_maps(model, mirrored))
    heatmaps = flip_average(heatmaps, back, np.asarray(flip))
    return locate_keypoints(heatmaps, batch["center"], batch["scale"], "udp")
