"""The settings of the pose task, and the model that they describe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitpose_jax.data.augmentation import Augmentation
from vitpose_jax.data.layouts import DataSource
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.decoding import DecodeMethod
from vitpose_jax.keypoints.skeletons import EXPERT_DATASETS, SKELETONS, Skeleton
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.training.settings import read_section
from vitpose_jax.weights.loading import Part


@dataclass(frozen=True)
class ModelSettings:
    """`config.model`: fields of ViTConfig, DecoderConfig and NeckConfig.

    Those that follow from the data or the other parts are left out; see `pose_config`.
    """

    backbone: Mapping[str, Any]
    decoder: Mapping[str, Any]
    neck: Mapping[str, Any] | None


@dataclass(frozen=True)
class EvaluationSettings:
    """`config.eval`."""

    metrics: tuple[str, ...]  # names in METRICS; the first decides which checkpoint is best
    boxes: str  # "gt" or a file of detections
    min_box_score: float  # detections with a lower score are left out
    max_people: int  # most predictions per image that count for AP and AR
    flip_test: bool  # average with the mirrored crop's heatmaps
    decode: DecodeMethod
    batch_size: int
    per_keypoint: bool  # also measure each keypoint by itself


@dataclass(frozen=True)
class PoseSettings:
    """The entries of a configuration that the pose task reads; recipes.py explains them."""

    seed: int
    data: DataSource
    val_data: DataSource
    category: str
    train_share: float
    dataset_index: int
    num_workers: int
    max_bad_share: float
    batch_size: int
    model: ModelSettings
    dtype: str
    init_from: str
    init_parts: tuple[Part, ...]
    follow_weights: tuple[Part, ...]
    random_positions: bool
    frozen: tuple[str, ...]
    drop_in_frozen: bool
    loss: str
    sigma: float
    augmentation: Augmentation
    eval: EvaluationSettings


def pose_config(settings: PoseSettings, skeleton: Skeleton) -> PoseConfig:
    """Complete `config.model` with the data's keypoints and the channels between the parts.

    With a mixture of experts, `config.dataset_index` selects the expert, and so the data set.

    Raises:
        UserError: a field is wrong or missing, or there is no such expert.
    """
    model = settings.model
    backbone = read_section(ViTConfig, model.backbone, "config.model.backbone")
    neck, channels = None, backbone.width
    if model.neck:
        values = {"width": backbone.width, **model.neck}
        neck = read_section(NeckConfig, values, "config.model.neck")
        channels = neck.out_channels
    sizes = {"num_keypoints": skeleton.num_keypoints, "in_channels": channels}
    decoder = read_section(DecoderConfig, sizes | dict(model.decoder), "config.model.decoder")
    name = skeleton.name if SKELETONS.get(skeleton.name) == skeleton else None
    if backbone.num_experts:
        expert = settings.dataset_index
        if expert not in range(backbone.num_experts):
            raise UserError(
                f"config.dataset_index is {expert}; the experts are 0..{backbone.num_experts - 1}"
            )
        name = EXPERT_DATASETS[expert]
    own = None if name and SKELETONS[name] == skeleton else skeleton
    return PoseConfig(backbone, decoder, neck, dataset=name, skeleton=own)
