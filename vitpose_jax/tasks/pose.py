"""The pose task: model, loss, data and evaluation."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from vitpose_jax.data.batches import train_batches
from vitpose_jax.data.coco.folder import warn_of_shared_images
from vitpose_jax.data.dataset import PoseDataset, choose_images
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import make_folder, write_json
from vitpose_jax.keypoints.encoding import encode_heatmaps
from vitpose_jax.keypoints.normalization import normalize_crops
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.tasks.losses import LOSSES, heatmap_accuracy
from vitpose_jax.tasks.pose_evaluation import PoseEvaluation
from vitpose_jax.tasks.pose_inputs import complete as complete  # a function of the task
from vitpose_jax.tasks.pose_settings import PoseSettings, pose_config
from vitpose_jax.training import workdir
from vitpose_jax.training.checkpoints import restore_model
from vitpose_jax.training.settings import check_names, read_part, read_section
from vitpose_jax.training.sharding import local_batch_size, process_shard
from vitpose_jax.training.step import Batch, Metrics
from vitpose_jax.training.task import Problem
from vitpose_jax.weights import load_weights_into, save_pose_model
from vitpose_jax.weights.loading import Part, check_keypoints

DTYPES = ("float32", "bfloat16")
"""The choices of `config.dtype`."""


def build_problem(
    config: ml_collections.ConfigDict, *, initialize: bool = True
) -> Problem[PoseModel]:
    """Open the data and build the model, with the weights `config.init_from` if `initialize`.

    Raises:
        UserError: a mistake in the configuration, or data or weights that cannot be used.
    """
    check_names(config, PoseSettings)
    settings = read_part(PoseSettings, config)
    train_set, val_set = open_data(settings, "train"), open_data(settings, "val")
    if not val_set.divided and not settings.val_data:
        raise UserError(
            f"{settings.data} is not divided into train and val: set config.val_data to another "
            "data set to evaluate on"
        )
    warn_of_shared_images(train_set, val_set)
    if settings.train_share != 1.0:
        train_set = train_set.on_images(choose_images(train_set.image_ids, settings.train_share))
    if settings.loss not in LOSSES:
        raise UserError(f"config.loss is {settings.loss!r}; choose one of {', '.join(LOSSES)}")
    if val_set.skeleton.keypoint_names != train_set.skeleton.keypoint_names:
        raise UserError(f"{settings.data} and {settings.val_data} have different keypoints")
    evaluation = PoseEvaluation(val_set, settings.eval)
    model = _random_model(settings, pose_config(settings, train_set.skeleton))
    if initialize:
        _initialize(model, settings)
    return Problem(
        model=model,
        model_config=model.config.to_dict(),
        loss_fn=lambda model, batch, key: pose_loss(model, batch, key, settings),
        train_batches=train_batches(
            train_set,
            local_batch_size(settings.batch_size),
            seed=settings.seed,
            augmentation=settings.augmentation,
            shard=process_shard(),
            num_workers=settings.num_workers,
        ),
        train_size=len(train_set),
        evaluate=evaluation.evaluate,
        metric=evaluation.metric,
        draw=evaluation.draw,
        data={"train": train_set.fingerprint, "val": val_set.fingerprint},
    )


def _initialize(model: PoseModel, settings: PoseSettings) -> None:
    """Load the initial weights, and draw random position embeddings if configured."""
    if settings.init_from:
        load_weights_into(model, settings.init_from, settings.init_parts)
    if settings.random_positions:
        positions = model.backbone.pos_embed
        key = jax.random.key(settings.seed)
        positions[...] = 0.02 * jax.random.truncated_normal(key, -2, 2, positions.shape)


def open_data(settings: PoseSettings, split: str) -> PoseDataset:
    """Open a split of `config.data`; for "val", of `config.val_data` if that is set."""
    backbone = read_section(ViTConfig, settings.model.backbone, "config.model.backbone")
    return open_pose_dataset(
        settings.data if split == "train" else settings.val_data or settings.data,
        split,
        input_size=backbone.input_size,
        dataset_index=settings.dataset_index,
        max_bad_share=settings.max_bad_share,
        category=settings.category,
    )


def pose_loss(
    model: PoseModel, batch: Batch, key: jax.Array, settings: PoseSettings
) -> tuple[jax.Array, Metrics]:
    """Compute the loss of uint8 crops, normalising them and drawing targets on the device.

    Wholly frozen parts run as in inference, so batch norm statistics do not change; with
    `config.drop_in_frozen`, a frozen backbone keeps its stochastic depth.
    """
    config, frozen = model.config, settings.frozen
    crops = normalize_crops(batch["crop"], model.dtype)
    targets, weights = encode_heatmaps(
        batch["crop_xy"], batch["visible"], config.input_size, config.heatmap_size, settings.sigma
    )
    experts = batch["dataset_index"] if config.backbone.num_experts else None
    heatmaps = model(
        crops,
        experts,
        train=True,
        freeze_backbone="backbone" in frozen and not settings.drop_in_frozen,
        freeze_neck="neck" in frozen,
        freeze_decoder="decoder" in frozen,
        key=key,
    )
    loss = LOSSES[settings.loss](heatmaps, targets, weights)
    return loss, {"accuracy": heatmap_accuracy(heatmaps, targets, weights)}


def build_model(config: ml_collections.ConfigDict, model_config: Mapping[str, Any]) -> PoseModel:
    """Build a run's model with random weights."""
    return _random_model(read_part(PoseSettings, config), PoseConfig.from_dict(dict(model_config)))


def _random_model(settings: PoseSettings, config: PoseConfig) -> PoseModel:
    if settings.dtype not in DTYPES:
        raise UserError(f"config.dtype is {settings.dtype!r}; choose one of {', '.join(DTYPES)}")
    return PoseModel(config, dtype=jnp.dtype(settings.dtype), rngs=nnx.Rngs(settings.seed))


def save_model(model: PoseModel, folder: Path) -> None:
    """Write a folder of weights, as `load_pose_model` opens it."""
    save_pose_model(model, folder)


def evaluate(config: ml_collections.ConfigDict, folder: Path) -> dict[str, float]:
    """Evaluate the run's best checkpoint or, if there is no run, the weights `config.init_from`.

    Only the validation data is opened. The metrics are printed and written to evaluation.json.

    Raises:
        UserError: there is neither, the model does not fit the data, or the file cannot be written.
    """
    settings = read_part(PoseSettings, config)
    settings = replace(settings, eval=replace(settings.eval, per_keypoint=True))
    if workdir.is_claimed(folder):
        run = workdir.read_run(folder)
        _check_same_model(run.config, config, folder)
        model, evaluation = build_evaluation(settings, PoseConfig.from_dict(run.model_config))
        step, model = restore_model(model, folder)
        source = f"step {step} of {folder}"
    elif settings.init_from:
        model, evaluation = build_evaluation(settings)
        source = settings.init_from
    else:
        raise UserError(f"nothing to evaluate: no run in {folder}, and config.init_from is empty")
    make_folder(folder)
    metrics = evaluation.evaluate(model)
    if jax.process_index() == 0:
        print(f"{source}:")
        for name, value in metrics.items():
            print(f"  {name:<24}{value:8.4f}")
        report = {"model": source, "metrics": metrics}
        write_json(folder / workdir.EVALUATION_FILE, report, indent=2)
    return metrics


def build_evaluation(
    settings: PoseSettings, trained: PoseConfig | None = None
) -> tuple[PoseModel, PoseEvaluation]:
    """Open the validation data and build the model that is evaluated on it.

    Args:
        settings: the task's settings.
        trained: the configuration of a run's model. If given, the model has random weights, to be
            replaced by the run's; otherwise it has the weights `config.init_from`.

    Raises:
        UserError: a mistake in the configuration, or weights for other keypoints.
    """
    dataset = open_data(settings, "val")
    evaluation = PoseEvaluation(dataset, settings.eval)
    model = _random_model(settings, pose_config(settings, dataset.skeleton))
    if trained is None:
        neck: tuple[Part, ...] = () if model.neck is None else ("neck",)
        load_weights_into(model, settings.init_from, ("backbone", *neck, "decoder"))
    else:
        check_keypoints(trained, model.config, "the run")
    return model, evaluation


def _check_same_model(
    there: ml_collections.ConfigDict, here: ml_collections.ConfigDict, folder: Path
) -> None:
    before, now = ({"task": c.task, "model": workdir.plain(c)["model"]} for c in (there, here))
    if changes := workdir.differences(before, now):
        raise UserError(
            f"{folder} was trained with another model: {'; '.join(changes)}. "
            "Give the same options as in training"
        )
