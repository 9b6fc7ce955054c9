"""Pose estimation as a training task: model, loss, data, COCO and PCK evaluation, pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import nnx

from vitpose_jax.data.augmentation import Augmentation
from vitpose_jax.data.batches import train_batches
from vitpose_jax.data.dataset import PoseDataset, choose_images
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.tolerance import MAX_BAD_SHARE
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.decoding import find_peaks
from vitpose_jax.keypoints.encoding import encode_heatmaps
from vitpose_jax.keypoints.normalization import normalize_crops
from vitpose_jax.keypoints.skeletons import EXPERT_DATASETS, SKELETONS
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.necks import NeckConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.tasks.initial_weights import (
    load_initial_weights,
    load_whole,
)
from vitpose_jax.tasks.losses import LOSSES
from vitpose_jax.tasks.pose_evaluation import PoseEvaluation
from vitpose_jax.tasks.sections import read_section
from vitpose_jax.training.sharding import local_batch_size, process_shard
from vitpose_jax.training.task import Task
from vitpose_jax.weights.loading import check_keypoints

DTYPES = ("float32", "bfloat16")
"""What `config.dtype` may be."""


def pose_config(config: ml_collections.ConfigDict, dataset: PoseDataset) -> PoseConfig:
    """`config.model` made whole: the data's keypoints, as many channels as come in.

    A mixture of experts is for the data set of the expert that `config.dataset_index` picks.
    """
    values = config.model.to_dict()
    backbone = read_section(ViTConfig, values["backbone"], "config.model.backbone")
    neck, channels = None, backbone.width
    if values.get("neck"):
        neck = {"width": backbone.width, **values["neck"]}
        neck = read_section(NeckConfig, neck, "config.model.neck")
        channels = neck.out_channels
    skeleton = dataset.skeleton
    sizes = {"num_keypoints": skeleton.num_keypoints, "in_channels": channels}
    decoder = read_section(DecoderConfig, sizes | values["decoder"], "config.model.decoder")
    name = skeleton.name if SKELETONS.get(skeleton.name) == skeleton else None
    if backbone.num_experts:
        expert = config.get("dataset_index", 0)
        if expert not in range(backbone.num_experts):
            raise UserError(
                f"config.dataset_index is {expert}; the experts are 0..{backbone.num_experts - 1}"
            )
        name = EXPERT_DATASETS[expert]
    own = None if name and SKELETONS[name] == skeleton else skeleton
    return PoseConfig(backbone, decoder, neck, dataset=name, skeleton=own)


def build_model(config: ml_collections.ConfigDict, model_config: Mapping[str, Any]) -> PoseModel:
    """The model with random weights by `config.seed`, computing in `config.dtype`."""
    dtype = config.get("dtype", "float32")
    if dtype not in DTYPES:
        raise UserError(f"config.dtype is {dtype!r}; choose one of {', '.join(DTYPES)}")
    rngs = nnx.Rngs(config.get("seed", 0))
    return PoseModel(PoseConfig.from_dict(model_config), dtype=dtype, rngs=rngs)


def save_model(model: PoseModel, folder: str | Path) -> None:
    """A weights folder, as `load_pose_model` opens it."""
    from vitpose_jax.weights import save_pose_model

    save_pose_model(model, folder)


def pose_loss(
    model: PoseModel,
    batch: Mapping[str, jax.Array],
    key: jax.Array,
    *,
    loss: str,
    sigma: float,
    frozen: tuple[str, ...],
    drop_in_frozen: bool = False,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a batch of uint8 crops; normalising and drawing targets happen here, on device.

    Parts that are frozen whole run as in inference, so that batch norm's statistics stay; with
    `drop_in_frozen` a frozen backbone keeps its stochastic depth.
    """
    config = model.config
    crops = normalize_crops(batch["crop"], model.dtype)
    targets, weights = encode_heatmaps(
        batch["crop_xy"], batch["visible"], config.input_size, config.heatmap_size, sigma
    )
    experts = batch["dataset_index"] if config.backbone.num_experts else None
    heatmaps = model(
        crops,
        experts,
        train=True,
        freeze_backbone="backbone" in frozen and not drop_in_frozen,
        freeze_neck="neck" in frozen,
        freeze_decoder="decoder" in frozen,
        key=key,
    )
    value = LOSSES[loss](heatmaps, targets, weights)
    return value, {"accuracy": heatmap_accuracy(heatmaps, targets, weights)}


def heatmap_accuracy(
    heatmaps: jax.Array, targets: jax.Array, weights: jax.Array, threshold: float = 0.05
) -> jax.Array:
    """Share of peaks within 5% of the map's size of the target's, as the original logs (acc_pose).

    Its mean over joints is one over the joints that are labelled at all. The original divides x by
    the height and y by the width.
    """
    _, height, width, _ = heatmaps.shape
    found, wanted = find_peaks(heatmaps)[0], find_peaks(targets)[0]
    distance = jnp.linalg.norm((found - wanted) / jnp.array([height, width]), axis=-1)
    counted = weights > 0
    hits, all_ = ((distance < threshold) & counted).sum(0), counted.sum(0)
    share = hits / jnp.maximum(all_, 1)
    return share.sum() / jnp.maximum((all_ > 0).sum(), 1)


def open_data(config: ml_collections.ConfigDict, split: str) -> PoseDataset:
    """The split of `config.data`, or for "val" of `config.val_data` where that is set."""
    name = config.data if split == "train" else config.get("val_data") or config.data
    return open_pose_dataset(
        name,
        split,
        input_size=tuple(config.model.backbone.input_size),
        dataset_index=config.get("dataset_index", 0),
        max_bad_share=config.get("max_bad_share", MAX_BAD_SHARE),
    )


def build_evaluation(
    config: ml_collections.ConfigDict, trained: Mapping[str, Any] | None = None
) -> tuple[PoseModel, PoseEvaluation]:
    """(model, evaluation) on the validation data, which alone is opened.

    The model has the weights `config.init_from`, every part of them. With `trained`, a run's
    `model_config`, it has random ones, to be replaced by that run's.
    Raises UserError on what the configuration has wrong, and where the keypoints are others.
    """
    dataset = open_data(config, "val")
    evaluation = PoseEvaluation(dataset, config.eval)
    model = build_model(config, pose_config(config, dataset).to_dict())
    if trained is None:
        load_whole(model, config.init_from)
    else:
        check_keypoints(PoseConfig.from_dict(dict(trained)), model.config, "the run")
    return model, evaluation


def build_task(config: ml_collections.ConfigDict) -> Task:
    """Opens the data, builds the model. Raises UserError on what the configuration has wrong."""
    train_set, val_set = open_data(config, "train"), open_data(config, "val")
    if config.get("train_share", 1.0) != 1.0:
        train_set = train_set.on_images(choose_images(train_set.image_ids, config.train_share))
    if config.loss not in LOSSES:
        raise UserError(f"config.loss is {config.loss!r}; choose one of {', '.join(LOSSES)}")
    if val_set.skeleton.keypoint_names != train_set.skeleton.keypoint_names:
        raise UserError(f"{config.data} and {config.val_data} have different keypoints")
    evaluation = PoseEvaluation(val_set, config.eval)
    model = build_model(config, pose_config(config, train_set).to_dict())
    load_initial_weights(model, config)
    frozen = tuple(config.get("frozen", ()))

    def loss_fn(model, batch, key):
        sigma = config.get("sigma", 2.0)
        drop = config.get("drop_in_frozen", False)
        return pose_loss(
            model, batch, key, loss=config.loss, sigma=sigma, frozen=frozen, drop_in_frozen=drop
        )

    batches = train_batches(
        train_set,
        local_batch_size(config.batch_size),
        seed=config.get("seed", 0),
        augmentation=read_section(
            Augmentation, config.get("augmentation", {}), "config.augmentation"
        ),
        shard=process_shard(),
        num_workers=config.get("num_workers", 0),
    )
    return Task(
        model=model,
        model_config=model.config.to_dict(),
        loss_fn=loss_fn,
        train_batches=batches,
        train_size=len(train_set),
        evaluate=evaluation.evaluate,
        metric=evaluation.metric,
        draw=evaluation.draw,
    )
