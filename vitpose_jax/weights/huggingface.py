"""Reading and writing folders of transformers' VitPose."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.crops import PIXEL_STD
from vitpose_jax.keypoints.normalization import IMAGE_MEAN, IMAGE_STD
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton, named_skeleton
from vitpose_jax.models.decoders import SIMPLE_UPSCALING, DecoderConfig
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights.checkpoint import Architecture, Checkpoint, Hints
from vitpose_jax.weights.mapping import table_rows, to_torch
from vitpose_jax.weights.native import Stored
from vitpose_jax.weights.schema import check_fields, check_sizes
from vitpose_jax.weights.tensors import write_weights

FILTERS = (256, 256)  # fixed in transformers' code


@dataclass(frozen=True)
class VitPoseBackboneConfig:
    """transformers' configuration of this name; config.json omits values that are the default."""

    image_size: int | tuple[int, int] = (256, 192)
    patch_size: int | tuple[int, int] = (16, 16)
    num_channels: int = 3
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float = 4
    num_experts: int = 1
    part_features: int = 256
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True


@dataclass(frozen=True)
class VitPoseConfig:
    """The other entries of transformers' config.json that the network depends on."""

    use_simple_decoder: bool = True
    scale_factor: float = SIMPLE_UPSCALING


def recognise_huggingface(checkpoint: Checkpoint, hints: Hints) -> Architecture:
    """Determine the architecture from config.json.

    Raises:
        UserError: it is another model's folder, has an unsupported option or a value of the wrong
            type, or the tensors have other sizes.
    """
    where, config = checkpoint.where, checkpoint.config
    if config.get("model_type") != "vitpose":
        raise UserError(
            f"{where}: config.json says model_type {config.get('model_type')!r:.60}; expected "
            "'vitpose' (transformers) or a folder written by this package"
        )
    given: VitPoseBackboneConfig = _read(
        VitPoseBackboneConfig, config.get("backbone_config") or {}, f"{where}: backbone_config"
    )
    whole: VitPoseConfig = _read(VitPoseConfig, config, f"{where}: config.json")
    patch = _pair(given.patch_size)
    for name, value, wanted in (
        ("hidden_act", given.hidden_act, "gelu"),
        ("qkv_bias", given.qkv_bias, True),
        ("num_channels", given.num_channels, 3),
        ("patch_size", patch, (patch[0],) * 2),
        ("scale_factor", whole.scale_factor, SIMPLE_UPSCALING),
    ):
        if value != wanted:
            raise UserError(f"{where}: config.json has {name} {value!r}; only {wanted!r} is known")
    hints.check_num_heads(given.num_attention_heads, where)
    experts = given.num_experts if given.num_experts > 1 else 0
    try:
        backbone = ViTConfig(
            width=given.hidden_size,
            depth=given.num_hidden_layers,
            num_heads=given.num_attention_heads,
            mlp_ratio=float(given.mlp_ratio),
            input_size=_pair(given.image_size),
            patch_size=patch[0],
            layer_norm_eps=given.layer_norm_eps,
            num_experts=experts,
            part_features=given.part_features if experts else 0,
        )
    except UserError as error:
        raise UserError(f"{where}: config.json: {error}") from None
    check_sizes(_sizes(backbone, checkpoint), where)
    if hints.backbone_only:
        return Architecture("huggingface", backbone, None, None, checkpoint.tensors)
    simple = whole.use_simple_decoder
    filters = () if simple else checkpoint.deconv_filters("head.deconv{}.weight", 1, 1)
    keypoints = checkpoint.tensor("head.conv.weight", 4).shape[0]
    decoder = DecoderConfig("simple" if simple else "classic", keypoints, backbone.width, filters)
    skeleton, notes = _labelled_skeleton(config.get("id2label"), keypoints)
    is_dataset = skeleton is not None and SKELETONS.get(skeleton.name) == skeleton
    return Architecture(
        naming="huggingface",
        backbone=backbone,
        decoder=decoder,
        dataset=skeleton.name if skeleton and is_dataset else None,
        tensors=checkpoint.tensors,
        notes=notes,
        skeleton=None if is_dataset else skeleton,
    )


def _read(kind: type[Any], values: Any, where: str) -> Any:
    """Make a dataclass from those values that are its fields, after checking them."""
    if isinstance(values, dict):
        names = {field.name for field in fields(kind)}
        values = {name: value for name, value in values.items() if name in names}
    return kind(**check_fields(kind, values, where))


def _sizes(config: ViTConfig, checkpoint: Checkpoint) -> Iterator[tuple[str, object, object]]:
    """The backbone's sizes according to config.json and to its tensors."""
    layer, (rows, columns) = "backbone.encoder.layer", config.grid_size
    yield "num_hidden_layers", config.depth, checkpoint.count(rf"{re.escape(layer)}\.(\d+)\..*")
    experts = checkpoint.count(rf"{re.escape(layer)}\.0\.mlp\.experts\.(\d+)\.weight")
    yield "num_experts", config.num_experts, experts
    side = config.patch_size
    for key, size in (
        ("backbone.embeddings.position_embeddings", (1, 1 + rows * columns, config.width)),
        (
            "backbone.embeddings.patch_embeddings.projection.weight",
            (config.width, 3, side, side),
        ),
        (f"{layer}.0.mlp.fc1.weight", (config.mlp_width, config.width)),
        (f"{layer}.0.mlp.fc2.weight", (config.width - config.part_features, config.mlp_width)),
    ):
        yield f"shape of {key}", size, checkpoint.tensor(key).shape


def _labelled_skeleton(labels: Any, count: int) -> tuple[Skeleton | None, tuple[str, ...]]:
    """The `count` keypoints that config.json names (None if it names none), and notes.

    Folders without names have LABEL_0, LABEL_1, ...
    """
    names = list(labels.values()) if isinstance(labels, dict) else []
    if not names or all(re.fullmatch(r"LABEL_\d+", str(name)) for name in names):
        return None, ()
    in_order = [labels.get(str(index)) for index in range(count)]
    if len(names) != count or len(set(map(str, in_order))) != count or None in in_order:
        note = f"id2label does not name each of its {count} keypoints once: the names are not used"
        return None, (note,)
    return named_skeleton(list(map(str, in_order))), ()


def write_huggingface(stored: Stored, folder: str | Path) -> None:
    """Write a folder that transformers' `VitPoseForPoseEstimation.from_pretrained` loads.

    It holds config.json, model.safetensors and the image processor's preprocessor_config.json.

    Raises:
        UserError: transformers does not support the model (a neck, other filters, no decoder), the
            folder already holds a model, or it cannot be written.
    """
    config = stored.config
    if isinstance(config, ViTConfig):
        raise UserError("a backbone without a decoder has no counterpart in transformers")
    if config.neck is not None:
        raise UserError("a model with a neck has no counterpart in transformers")
    if config.decoder.kind == "classic" and config.decoder.filters != FILTERS:
        raise UserError(
            f"transformers' classic decoder has {FILTERS} filters, this model has "
            f"{config.decoder.filters}; write a .pth file instead"
        )
    if (Path(folder) / "config.json").exists():
        raise UserError(f"{folder}: holds a model already; choose another folder, or remove it")
    texts = {
        "config.json": _model_config(config),
        "preprocessor_config.json": _processor_config(config),
    }
    write_weights(folder, to_torch(stored.arrays, table_rows(config), "huggingface"), texts)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _model_config(config: PoseConfig) -> dict[str, Any]:
    backbone = config.backbone
    if backbone.mlp_ratio != int(backbone.mlp_ratio):
        raise UserError(
            f"transformers takes a whole mlp_ratio only, this model has {backbone.mlp_ratio}"
        )
    skeleton = config.skeleton or (SKELETONS[config.dataset] if config.dataset else None)
    unnamed = tuple(f"LABEL_{i}" for i in range(config.num_keypoints))
    labels = unnamed if skeleton is None else skeleton.keypoint_names
    values: dict[str, Any] = {
        "model_type": "vitpose_backbone",
        "image_size": list(backbone.input_size),
        "patch_size": [backbone.patch_size] * 2,
        "hidden_size": backbone.width,
        "num_hidden_layers": backbone.depth,
        "num_attention_heads": backbone.num_heads,
        "mlp_ratio": int(backbone.mlp_ratio),
        "layer_norm_eps": backbone.layer_norm_eps,
        "out_indices": [backbone.depth],
        "out_features": [f"stage{backbone.depth}"],
    }
    if backbone.num_experts:
        values["num_experts"] = backbone.num_experts
        values["part_features"] = backbone.part_features
    return {
        "architectures": ["VitPoseForPoseEstimation"],
        "model_type": "vitpose",
        "backbone_config": values,
        "use_simple_decoder": config.decoder.kind == "simple",
        "scale_factor": SIMPLE_UPSCALING,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _processor_config(config: PoseConfig) -> dict[str, Any]:
    height, width = config.input_size
    return {
        "image_processor_type": "VitPoseImageProcessor",
        "do_affine_transform": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [float(v) for v in IMAGE_MEAN],
        "image_std": [float(v) for v in IMAGE_STD],
        "normalize_factor": PIXEL_STD,
        "size": {"height": height, "width": width},
    }
