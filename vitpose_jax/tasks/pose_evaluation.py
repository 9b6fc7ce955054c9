"""Evaluating a pose model: predict every person once, over all devices, and score."""

import logging
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vitpose_jax.data.batches import eval_batches
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.people import People
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation.coco import (
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
from vitpose_jax.tasks.pose_settings import EvaluationSettings
from vitpose_jax.training.sharding import (
    device_mesh,
    gather_rows,
    local_rows,
    process_shard,
    shard_batch,
)

log = logging.getLogger(__name__)

METRICS = {"coco": "AP", "pck_torso": "PCK", "pck_box": "PCK_box"}
"""The choices of `config.eval.metrics` -> the name of the main metric of each."""

INPUTS = ("crop", "center", "scale", "dataset_index")
"""The entries of a batch that prediction needs."""

PCK_THRESHOLD = 0.2
DRAWN_PEOPLE = 16


class PoseEvaluation:
    """The validation people and the metrics to compute on them.

    Attributes:
        dataset: the validation data.
        batches: its people, in batches.
        metric: the metric that decides which checkpoint is best.
    """

    def __init__(self, dataset: PoseDataset, settings: EvaluationSettings) -> None:
        """Check the settings and prepare to read the people.

        Raises:
            UserError: a wrong setting, or a metric that cannot be computed on these data.
        """
        self.dataset, self._settings = dataset, settings
        self._mesh = device_mesh()
        metrics, batch_size = settings.metrics, settings.batch_size
        if not metrics or any(name not in METRICS for name in metrics):
            raise UserError(f"config.eval.metrics: choose from {', '.join(METRICS)}")
        if settings.boxes != "gt" and set(metrics) != {"coco"}:
            raise UserError("config.eval: PCK is measured on ground-truth boxes only")
        self.metric = METRICS[metrics[0]]
        if settings.decode not in DECODE_METHODS:
            known = ", ".join(DECODE_METHODS)
            raise UserError(f"config.eval.decode is {settings.decode!r}; choose one of {known}")
        if batch_size < 1:
            raise UserError(f"config.eval.batch_size is {batch_size}; it must be at least 1")
        per_device = -(-batch_size // self._mesh.size)
        self.batches = eval_batches(
            dataset,
            per_device * self._mesh.size // jax.process_count(),
            boxes=settings.boxes,
            min_box_score=settings.min_box_score,
            shard=process_shard(),
        )
        for metric in set(metrics) - {"coco"}:  # better to fail now than after training
            judged_joints(dataset.people.visible, _pck_sizes(metric, dataset.people, dataset))
        if "coco" in metrics:
            _warn_of_crowds(dataset, settings.max_people)
        self._drawn: dict[str, np.ndarray] | None = None

    def evaluate(self, model: PoseModel) -> dict[str, float]:
        """Predict every validation person once and score the predictions."""
        predictions = self.predict(model)
        return score_predictions(predictions, self.dataset, self._settings)

    def predict(self, model: PoseModel) -> PosePredictions:
        """Predict every validation person once; every process gets all predictions."""
        skeleton, settings = self.dataset.skeleton, self._settings
        flip = tuple(map(int, skeleton.flip_index)) if settings.flip_test else None
        predict = Predictor(model, PredictionOptions(flip, settings.decode, mirrored_apart=True))
        parts, running = [], None
        for batch in self.batches:
            inputs = {name: batch[name] for name in INPUTS}
            previous, running = running, (batch, predict(shard_batch(inputs, self._mesh)))
            if previous:  # fetched while the devices are busy with this batch
                parts.append(_predictions_of(*previous))
        if running:
            parts.append(_predictions_of(*running))
        columns = {
            name: gather_rows(np.concatenate([part[name] for part in parts])) for name in parts[0]
        }
        valid = columns.pop("valid")  # the other rows pad the last batch
        return PosePredictions(**{name: rows[valid] for name, rows in columns.items()})

    def draw(self, model: PoseModel) -> np.ndarray | None:
        """Draw the model's predictions for a few people, the same every time."""
        if jax.process_count() > 1:
            return None
        if self._drawn is None:
            self._drawn = pictures.first_people(self.batches, DRAWN_PEOPLE)
        found, scores = Predictor(model, PredictionOptions())(self._drawn)
        truth, labelled = self._truth(self._drawn["annotation_id"], found.shape)
        points, true_points = (
            np.asarray(to_crop(each, self._drawn, model.config.input_size))
            for each in (found, truth)
        )
        crops, skeleton = self._drawn["crop"], self.dataset.skeleton
        return pictures.draw_crops(
            crops, points, np.asarray(scores), true_points, labelled, skeleton
        )

    def _truth(self, ids: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The annotated keypoints of people, and which are labelled: none of a detected box's."""
        if self._settings.boxes != "gt":
            return np.zeros(shape, np.float32), np.zeros(shape[:2], bool)
        people = self.dataset.people
        row_of = {int(person): row for row, person in enumerate(people.annotation_id)}
        there = people.take(np.array([row_of[int(person)] for person in ids]))
        return there.keypoints, there.visible > 0


class Predictor:
    """A pose model as a compiled function of batches of uint8 crops."""

    def __init__(self, model: PoseModel, options: PredictionOptions) -> None:
        self._dtype, self._options = model.dtype, options
        self._graph, state = nnx.split(model)
        self._state = cast_matrices(state, model.dtype)

    def __call__(self, batch: Mapping[str, Array | np.ndarray]) -> tuple[Array, Array]:
        """Return keypoints (B, K, 2) in pixels of the original images, and scores (B, K)."""
        inputs = {name: batch[name] for name in INPUTS}
        program = prediction_program(self._dtype, len(batch["crop"]))
        return program(self._graph, self._state, inputs, self._options)


def to_crop(
    keypoints: Float[Array | np.ndarray, "batch keypoints 2"],
    batch: Mapping[str, np.ndarray],
    input_size: tuple[int, int],
) -> Float[Array | np.ndarray, "batch keypoints 2"]:
    """Map pixels of the original images to pixels of the crops at `center`, `scale`."""
    size = batch["scale"][:, None] * PIXEL_STD
    spans = jnp.array(input_size[::-1], jnp.float32) - 1
    return (keypoints - batch["center"][:, None] + size * 0.5) * spans / size


def _predictions_of(
    batch: Mapping[str, np.ndarray], outputs: tuple[Array, Array]
) -> dict[str, np.ndarray]:
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
    predictions: PosePredictions, dataset: PoseDataset, settings: EvaluationSettings
) -> dict[str, float]:
    """Return the metrics that `config.eval` asks for."""
    scores: dict[str, float] = {}
    skeleton = dataset.skeleton
    if "coco" in settings.metrics:
        sigmas = np.asarray(skeleton.sigmas)
        limit = settings.max_people
        scores |= evaluate_coco(predictions, dataset.coco_gt, sigmas, max_people=limit)
        if settings.per_keypoint:
            names = skeleton.keypoint_names
            table = keypoint_table(predictions, dataset.coco_gt, sigmas, names, max_people=limit)
            scores |= {f"AP/{name}": value for name, value in table.items()}
    for metric in settings.metrics:
        if metric != "coco":
            scores |= _pck(predictions, dataset, metric, settings.per_keypoint)
    return scores


def _warn_of_crowds(dataset: PoseDataset, max_people: int) -> None:
    if max_people < 1:
        raise UserError(f"config.eval.max_people is {max_people}; it must be at least 1")
    if crowded := crowded_images(dataset.coco_gt, max_people):
        log.warning(
            "%s: %d images have more than %d labelled people, the first is image %s; AP and AR "
            "use no more per image, so the others count as missed (raise config.eval.max_people)",
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
    """The sizes (people,) in pixels by which distances are divided."""
    if metric == "pck_box":
        return box_sizes(people.box)
    return torso_sizes(people.keypoints, people.visible, dataset.skeleton.keypoint_names)
