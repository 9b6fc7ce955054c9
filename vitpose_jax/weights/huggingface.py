"""Folders of transformers' VitPose: read and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.crops import PIXEL_STD
from vitpose_jax.keypoints.normalization import IMAGE_MEAN, IMAGE_STD
from vitpose_jax.keypoints.skeletons import SKELETONS, known_skeleton
from vitpose_jax.models.decoders import SIMPLE_UPSCALING, DecoderConfig
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights.checkpoint import Architecture, Checkpoint, Hints
from vitpose_jax.weights.mapping import table_rows, to_torch
from vitpose_jax.weights.native import Stored
from vitpose_jax.weights.tensors import write_weights

FILTERS = (256, 256)  # written into transformers' code

# transformers leaves out of config.json what equals these defaults of its VitPoseBackboneConfig.
BACKBONE_DEFAULTS = {
    "image_size": (256, 192),
    "patch_size": (16, 16),
    "num_channels": 3,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "num_experts": 1,
    "part_features": 256,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
}


def recognise_huggingface(checkpoint: Checkpoint, hints: Hints) -> Architecture:
    """Read the architecture off config.json.

    Raises:
        UserError: another model's folder, or a choice in it that we do not know.
    """
    where, config = checkpoint.where, checkpoint.config
    if config.get("model_type") != "vitpose":
        raise UserError(
            f"{where}: config.json says model_type {config.get('model_type')!r}; expected "
            "'vitpose' (transformers) or a folder written by this package"
        )
    given = BACKBONE_DEFAULTS | (config.get("backbone_config") or {})
    patch = _pair(given["patch_size"])
    for name, value, wanted in (
        ("hidden_act", given["hidden_act"], "gelu"),
        ("qkv_bias", given["qkv_bias"], True),
        ("num_channels", given["num_channels"], 3),
        ("patch_size", patch, (patch[0],) * 2),
        ("scale_factor", config.get("scale_factor", SIMPLE_UPSCALING), SIMPLE_UPSCALING),
    ):
        if value != wanted:
            raise UserError(f"{where}: config.json has {name} {value!r}; only {wanted!r} is known")
    hints.check_num_heads(given["num_attention_heads"], where)
    experts = given["num_experts"] if given["num_experts"] > 1 else 0
    backbone = ViTConfig(
        width=given["hidden_size"],
        depth=given["num_hidden_layers"],
        num_heads=given["num_attention_heads"],
        mlp_ratio=float(given["mlp_ratio"]),
        input_size=_pair(given["image_size"]),
        patch_size=patch[0],
        layer_norm_eps=given["layer_norm_eps"],
        num_experts=experts,
        part_features=given["part_features"] if experts else 0,
    )
    if hints.backbone_only:
        return Architecture("huggingface", backbone, None, None, checkpoint.tensors)
    simple = config.get("use_simple_decoder", True)
    filters = () if simple else checkpoint.deconv_filters("head.deconv{}.weight", 1, 1)
    keypoints = checkpoint.tensor("head.conv.weight").shape[0]
    decoder = DecoderConfig("simple" if simple else "classic", keypoints, backbone.width, filters)
    dataset = _labelled_dataset(config.get("id2label") or {}, keypoints)
    return Architecture("huggingface", backbone, decoder, dataset, checkpoint.tensors)


def write_huggingface(stored: Stored, folder: str | Path) -> None:
    """Write a folder that transformers' `VitPoseForPoseEstimation.from_pretrained` loads.

    It holds config.json, model.safetensors and the image processor's preprocessor_config.json.

    Raises:
        UserError: transformers has no such model (a neck, other filters, no decoder), the folder
            holds a model already, or it cannot be written.
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


def _labelled_dataset(labels: Mapping[str, str], count: int) -> str | None:
    """The data set whose `count` keypoints have these names in this order, or None.

    A folder without names has LABEL_0, LABEL_1, ...
    """
    names = [str(labels.get(str(index), "")) for index in range(count)]
    found = known_skeleton(names)
    return found.name if found and found.name in SKELETONS else None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


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
