"""Evaluating a pose model on a data set: predict everybody once, over all devices, and score."""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import ArrayLike

from vitpose_jax.data.batches import EvalBatches, eval_batches
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.people import People
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation.coco import (
    MAX_PEOPLE,
    PosePredictions,
    crowded_images,
    evaluate_coco,
    keypoint_table,
)
from vitpose_jax.evaluation.pck import box_sizes, judged_joints, pck, torso_sizes
from vitpose_jax.keypoints.crops import PIXEL_STD
from vitpose_jax.keypoints.decoding import DECODE_METHODS
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.prediction import PredictionOptions, cast_matrices, prediction_program
from vitpose_jax.tasks import pictures
from vitpose_jax.training.sharding import (
    device_mesh,
    gather_rows,
    local_rows,
    process_shard,
    shard_batch,
)

log = logging.getLogger(__name__)

METRICS = {"coco": "AP", "pck_torso": "PCK", "pck_box": "PCK_box"}
"""What `config.eval.metrics` may list -> the name of its main figure."""

INPUTS = ("crop", "center", "scale", "dataset_index")
"""The entries of a batch that the network and the way back to the image need."""

PCK_THRESHOLD = 0.2
DRAWN_PEOPLE = 16


class PoseEvaluation:
    """The validation people, and what `config` (the run's `eval` section) asks to be measured.

    config: `metrics` (names in METRICS, the first decides which checkpoint is best), `boxes` ("gt"
    or a detections file), `flip_test`, `decode`, `batch_size`, `per_keypoint`, `min_box_score`,
    `max_people`.
    """

    def __init__(self, dataset: PoseDataset, config: ml_collections.ConfigDict) -> None:
        self.dataset, self.config = dataset, config
        self.mesh = device_mesh()
        unknown = [name for name in config.metrics if name not in METRICS]
        if unknown or not config.metrics:
            raise UserError(f"config.eval.metrics: choose from {', '.join(METRICS)}")
        if config.get("boxes", "gt") != "gt" and set(config.metrics) != {"coco"}:
            raise UserError("config.eval: PCK is measured on ground-truth boxes only")
        self.metric = METRICS[config.metrics[0]]
        self.method = config.get("decode", "udp")
        if self.method not in DECODE_METHODS:
            raise UserError(
                f"config.eval.decode is {self.method!r}; choose one of {', '.join(DECODE_METHODS)}"
            )
        batch_size = config.get("batch_size", 64)
        if batch_size < 1:
            raise UserError(f"config.eval.batch_size is {batch_size}; it must be at least 1")
        per_device = -(-batch_size // self.mesh.size)
        self.batches = eval_batches(
            dataset,
            per_device * self.mesh.size // jax.process_count(),
            boxes=config.get("boxes", "gt"),
            min_box_score=config.get("min_box_score", 0.0),
            shard=process_shard(),
        )
        for metric in set(config.metrics) - {"coco"}:  # what cannot be measured is better known now
            judged_joints(dataset.people.visible, _pck_sizes(metric, dataset.people, dataset))
        if "coco" in config.metrics:
            _tell_of_crowds(dataset, config.get("max_people", MAX_PEOPLE))
        self._drawn: dict[str, np.ndarray] | None = None

    def evaluate(self, model: PoseModel) -> dict[str, float]:
        """Predict every validation person once and score them."""
        flip = self.dataset.skeleton.flip_index if self.config.get("flip_test", True) else None
        predictions = predict_people(model, self.batches, self.mesh, flip, self.method)
        return score_predictions(predictions, self.dataset, self.config)

    def draw(self, model: PoseModel) -> np.ndarray | None:
        """The same few people every time, as the model sees them."""
        if jax.process_count() > 1:
            return None
        if self._drawn is None:
            self._drawn = pictures.first_people(self.batches, DRAWN_PEOPLE)
        found, scores = Predictor(model, PredictionOptions())(self._drawn)
        crop = jax.device_get(to_crop(found, self._drawn, model.config.input_size))
        return pictures.draw_crops(self._drawn, crop, np.asarray(scores), self.dataset.skeleton)


class Predictor:
    """A pose model as it is validated: a compiled function of batches of uint8 crops."""

    def __init__(self, model: PoseModel, options: PredictionOptions) -> None:
        self._dtype, self._options = model.dtype, options
        self._graph, state = nnx.split(model)
        self._state = cast_matrices(state, model.dtype)

    def __call__(self, batch: Mapping[str, ArrayLike]) -> tuple[jax.Array, ...]:
        """Keypoints (B, K, 2) in original-image pixels and scores (B, K)."""
        inputs = {name: batch[name] for name in INPUTS}
        program = prediction_program(self._dtype, len(batch["crop"]))
        return program(self._graph, self._state, inputs, self._options)


def to_crop(
    keypoints: jax.Array, batch: Mapping[str, Any], input_size: tuple[int, int]
) -> jax.Array:
    """Original-image pixels (B, K, 2) -> pixels of the upright crops at `center`, `scale`."""
    size = batch["scale"][:, None] * PIXEL_STD
    spans = jnp.array(input_size[::-1], jnp.float32) - 1
    return (keypoints - batch["center"][:, None] + size * 0.5) * spans / size


def predict_people(
    model: PoseModel,
    batches: EvalBatches,
    mesh: Mesh,
    flip_index: np.ndarray | None,
    method: str = "udp",
) -> PosePredictions:
    """Everybody's pose, on every process; padding is left out.

    flip_index: average with the mirrored crop's heatmaps, or None.
    """
    flip = None if flip_index is None else tuple(map(int, flip_index))
    predict = Predictor(model, PredictionOptions(flip, method, mirrored_apart=True))
    waiting: list[tuple[Mapping[str, np.ndarray], Any]] = []
    parts = []
    for batch in batches:
        inputs = {name: batch[name] for name in INPUTS}
        waiting.append((batch, predict(shard_batch(inputs, mesh))))
        if len(waiting) > 1:  # the device is busy with this batch while the last one is fetched
            parts.append(_predictions_of(*waiting.pop(0)))
    parts += [_predictions_of(*pair) for pair in waiting]
    columns = {
        name: np.concatenate([part[name] for part in parts]) for part in parts for name in part
    }
    columns = {name: gather_rows(rows) for name, rows in columns.items()}
    valid = columns.pop("valid")
    return PosePredictions(**{name: rows[valid] for name, rows in columns.items()})


def _predictions_of(batch: Mapping[str, np.ndarray], outputs) -> dict[str, np.ndarray]:
    keypoints, scores = (local_rows(array) for array in outputs)
    return {
        "keypoints": keypoints,
        "scores": scores,
        "box_scores": batch["box_score"],
        "areas": np.prod(batch["scale"] * PIXEL_STD, axis=-1),
        "image_ids": batch["image_id"],
        "person_ids": batch["annotation_id"],
        "valid": batch["valid"],
    }


def score_predictions(
    predictions: PosePredictions, dataset: PoseDataset, config: ml_collections.ConfigDict
) -> dict[str, float]:
    """The figures that `config.metrics` lists; a table by keypoint with `config.per_keypoint`."""
    scores: dict[str, float] = {}
    skeleton = dataset.skeleton
    names = skeleton.keypoint_names
    if "coco" in config.metrics:
        sigmas = np.asarray(skeleton.sigmas)
        limit = config.get("max_people", MAX_PEOPLE)
        scores |= evaluate_coco(predictions, dataset.coco_gt, sigmas, max_people=limit)
        if config.get("per_keypoint", False):
            table = keypoint_table(predictions, dataset.coco_gt, sigmas, names, max_people=limit)
            scores |= {f"AP/{name}": value for name, value in table.items()}
    for metric in config.metrics:
        if metric != "coco":
            scores |= _pck(predictions, dataset, metric, config.get("per_keypoint", False))
    return scores


def _tell_of_crowds(dataset: PoseDataset, max_people: int) -> None:
    if not isinstance(max_people, int) or max_people < 1:
        raise UserError(f"config.eval.max_people is {max_people!r}; it must be at least 1")
    crowded = crowded_images(dataset.coco_gt, max_people)
    if crowded:
        log.warning(
            "%s: %d images have more than %d labelled people, the first is image %s; AP and AR "
            "look at no more an image, the others count as missed (raise config.eval.max_people)",
            *(dataset.name, len(crowded), max_people, crowded[0]),
        )


def _pck(
    predictions: PosePredictions, dataset: PoseDataset, metric: str, per_keypoint: bool
) -> dict[str, float]:
    people = dataset.people
    row_of = {int(person): row for row, person in enumerate(people.annotation_id)}
    rows = np.array([row_of[int(person)] for person in predictions.person_ids], int)
    found = people.take(rows)
    sizes = _pck_sizes(metric, found, dataset)
    overall, each = pck(predictions.keypoints, found.keypoints, found.visible, sizes, PCK_THRESHOLD)
    name, names = METRICS[metric], dataset.skeleton.keypoint_names
    table = {f"{name}/{joint}": float(v) for joint, v in zip(names, each, strict=True) if v == v}
    return {name: overall} | (table if per_keypoint else {})


def _pck_sizes(metric: str, people: People, dataset: PoseDataset) -> np.ndarray:
    """What the distances of `people` (N,) are measured by, in pixels."""
    if metric == "pck_box":
        return box_sizes(people.box)
    return torso_sizes(people.keypoints, people.visible, dataset.skeleton.keypoint_names)
