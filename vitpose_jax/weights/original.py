"""What a PyTorch checkpoint is: its naming, its shape as our configuration, its tensors."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS, plain_name
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.necks import NeckConfig
from vitpose_jax.models.pose import EXPERT_DATASETS
from vitpose_jax.models.vit import VIT_SIZES, ViTConfig
from vitpose_jax.weights.fpn import plain_head_keys, recognise_neck
from vitpose_jax.weights.positions import guess_grid
from vitpose_jax.weights.sources import Checkpoint

PATCH_KERNEL = "backbone.patch_embed.proj.weight"
MAE_HUGE_PATCH = 14  # pixels; the other pretraining files have ViTPose's 16
HEADS_OF_WIDTH = {config.width: config.num_heads for config in VIT_SIZES.values()}

# transformers leaves out of config.json what equals these defaults of its VitPoseBackboneConfig.
HF_BACKBONE_DEFAULTS = {
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


@dataclass(frozen=True)
class Architecture:
    """A checkpoint understood: our configurations, and its tensors under the table's keys.

    `decoder` is None for a file that holds a backbone only; `notes` are for the user to read.
    """

    naming: str
    backbone: ViTConfig
    decoder: DecoderConfig | None
    dataset: str | None
    tensors: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = field(default=())
    neck: NeckConfig | None = None


def recognise(
    checkpoint: Checkpoint,
    *,
    num_heads: int | None = None,
    dataset: str | None = None,
    input_size: tuple[int, int] | None = None,
    backbone_only: bool = False,
    fpn_strides: tuple[int, ...] | None = None,
    fpn_taps: tuple[int, ...] | None = None,
) -> Architecture:
    """Reads the architecture off a checkpoint.

    Args:
        checkpoint: tensors and, for a folder, config.json.
        num_heads: for an original file of an unusual width, which does not tell.
        dataset: the head to take of a ViTPose+ file, and its default expert.
        input_size: (height, width) the weights were made for, where neither 4:3 nor a square fits
            their grid.
        backbone_only: leave out whatever is not the backbone, known or not.
        fpn_strides, fpn_taps: of an original file's neck, which does not tell (see `fpn`).

    Raises:
        UserError: not a ViTPose checkpoint, or something it does not tell is needed.
    """
    if dataset is not None and dataset not in EXPERT_DATASETS:
        raise UserError(f"no data set {dataset!r}: choose one of {', '.join(EXPERT_DATASETS)}")
    if checkpoint.config:
        found = _recognise_huggingface(checkpoint, num_heads, backbone_only)
    else:
        fpn = {"strides": fpn_strides, "taps": fpn_taps}
        found = _recognise_original(checkpoint, num_heads, dataset, input_size, backbone_only, fpn)
    return _settle_dataset(found, dataset, checkpoint.where)


def _recognise_huggingface(
    checkpoint: Checkpoint, num_heads: int | None, backbone_only: bool
) -> Architecture:
    where, tensors, config = checkpoint.where, checkpoint.tensors, checkpoint.config
    if config.get("model_type") != "vitpose":
        raise UserError(
            f"{where}: config.json says model_type {config.get('model_type')!r}; expected "
            "'vitpose' (transformers) or a folder written by this package"
        )
    given = HF_BACKBONE_DEFAULTS | (config.get("backbone_config") or {})
    patch = _pair(given["patch_size"])
    for name, value, wanted in (
        ("hidden_act", given["hidden_act"], "gelu"),
        ("qkv_bias", given["qkv_bias"], True),
        ("num_channels", given["num_channels"], 3),
        ("patch_size", patch, (patch[0],) * 2),
        ("scale_factor", config.get("scale_factor", 4), 4),
    ):
        if value != wanted:
            raise UserError(f"{where}: config.json has {name} {value!r}; only {wanted!r} is known")
    if num_heads not in (None, given["num_attention_heads"]):
        raise UserError(
            f"{where}: num_heads {num_heads} was asked for, but config.json says "
            f"{given['num_attention_heads']}"
        )
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
    if backbone_only:
        return Architecture("huggingface", backbone, None, None, tensors)
    simple = config.get("use_simple_decoder", True)
    filters = () if simple else _filters(tensors, "head.deconv{}.weight", 1, 1)
    keypoints = _tensor(tensors, "head.conv.weight", where).shape[0]
    decoder = DecoderConfig("simple" if simple else "classic", keypoints, backbone.width, filters)
    labelled = _labelled_dataset(config.get("id2label") or {}, keypoints)
    return Architecture("huggingface", backbone, decoder, labelled, tensors)


def _labelled_dataset(labels: Mapping[str, str], count: int) -> str | None:
    """The data set whose `count` keypoints have these names in this order, or None.

    Published folders write L_Eye where COCO has left_eye; a folder without names has LABEL_0, ..
    """

    names = [plain_name(str(labels.get(str(index), ""))) for index in range(count)]
    for dataset in EXPERT_DATASETS:
        if [plain_name(name) for name in SKELETONS[dataset].keypoint_names] == names:
            return dataset
    return None


def _recognise_original(
    checkpoint: Checkpoint,
    num_heads: int | None,
    dataset: str | None,
    input_size: tuple[int, int] | None,
    backbone_only: bool,
    fpn: Mapping[str, tuple[int, ...] | None],
) -> Architecture:
    where, tensors, notes = checkpoint.where, plain_head_keys(checkpoint.tensors), []
    if "backbone.pos_embed" not in tensors and "pos_embed" in tensors:
        tensors = _from_pretraining(tensors)
        notes.append("pretraining file: backbone only")
        kernel = _tensor(tensors, PATCH_KERNEL, where, 4)
        if kernel.shape[2:] == (MAE_HUGE_PATCH, MAE_HUGE_PATCH):
            # As the authors' code does (`patch_padding='pad'`).
            tensors[PATCH_KERNEL] = np.pad(kernel, ((0, 0), (0, 0), (1, 1), (1, 1)))
            notes.append("patches of 14x14 pixels: kernel padded with zeros to 16x16")
    if "backbone.pos_embed" not in tensors:
        names = ", ".join(list(tensors)[:3])
        raise UserError(
            f"{where}: not a ViTPose checkpoint: tensor 'backbone.pos_embed' is missing "
            f"(it has {names}, ...)"
        )
    backbone = _original_backbone(tensors, num_heads, input_size, where)
    rows, columns = backbone.grid_size
    if tensors["backbone.pos_embed"].shape[1] == rows * columns:
        # As if the class token's row, which is added to all others, were zero.
        tensors["backbone.pos_embed"] = np.pad(
            tensors["backbone.pos_embed"], ((0, 0), (1, 0), (0, 0))
        )
        notes.append("position embedding without a class token's row: a zero row put in front")
    if "backbone.last_norm.weight" not in tensors:
        notes.append("no final norm in the file: it starts as the identity")
        tensors["backbone.last_norm.weight"] = np.ones(backbone.width, np.float32)
        tensors["backbone.last_norm.bias"] = np.zeros(backbone.width, np.float32)

    if backbone_only or not any(key.startswith("keypoint_head.") for key in tensors):
        return Architecture("original", backbone, None, dataset, tensors, tuple(notes))
    split_already = not backbone.num_experts and any(".experts." in key for key in tensors)
    if split_already:
        notes.append("its experts are merged into the shared layers already: a plain ViT")
    elif dataset not in (None, EXPERT_DATASETS[0]):
        tensors = _take_head(tensors, dataset, where)
    neck, assumed = recognise_neck(tensors, backbone.width, where, **fpn)
    return Architecture(
        "original",
        backbone,
        _original_decoder(tensors, neck.out_channels if neck else backbone.width, where),
        dataset,
        tensors,
        (*notes, *assumed),
        neck,
    )


def _from_pretraining(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keys of an MAE file as the table has them; its `norm` is the encoder's final norm."""
    renamed = {}
    for key, tensor in tensors.items():
        if re.match(r"pos_embed$|patch_embed\.|blocks\.|last_norm\.|norm\.", key):
            key = "backbone." + re.sub(r"^norm\.", "last_norm.", key)
        renamed[key] = tensor
    return renamed


def _original_backbone(
    tensors: Mapping[str, np.ndarray],
    num_heads: int | None,
    input_size: tuple[int, int] | None,
    where: str,
) -> ViTConfig:
    positions = _tensor(tensors, "backbone.pos_embed", where, 3)
    width = positions.shape[-1]
    patch = _tensor(tensors, PATCH_KERNEL, where, 4).shape[-1]
    blocks = {
        int(m.group(1)) for key in tensors if (m := re.match(r"backbone\.blocks\.(\d+)\.", key))
    }
    fc1 = _tensor(tensors, "backbone.blocks.0.mlp.fc1.weight", where, 2)
    fc2 = _tensor(tensors, "backbone.blocks.0.mlp.fc2.weight", where, 2)
    experts = len(
        [k for k in tensors if re.fullmatch(r"backbone\.blocks\.0\.mlp\.experts\.\d+\.weight", k)]
    )
    part = width - fc2.shape[0]
    if num_heads is None:
        if width not in HEADS_OF_WIDTH:
            raise UserError(
                f"{where}: the number of attention heads cannot be read off a checkpoint of width "
                f"{width}; pass num_heads= (--num-heads on the command line)"
            )
        num_heads = HEADS_OF_WIDTH[width]
    rows, columns = _original_grid(positions.shape[1], patch, input_size, where)
    return ViTConfig(
        width=width,
        depth=max(blocks) + 1,
        num_heads=num_heads,
        mlp_ratio=fc1.shape[0] / width,
        input_size=(rows * patch, columns * patch),
        patch_size=patch,
        num_experts=experts if part > 0 else 0,
        part_features=part if experts and part > 0 else 0,
    )


def _original_grid(
    count: int, patch: int, input_size: tuple[int, int] | None, where: str
) -> tuple[int, int]:
    """Grid of `count` embeddings, of which the first usually is the class token's."""
    for positions in (count - 1, count):
        with contextlib.suppress(UserError):
            return guess_grid(positions, where)
    # Last: the size may be one that is only asked for, with as many patches by chance.
    if input_size is not None:
        rows, columns = (side // patch for side in input_size)
        if rows * columns in (count, count - 1):
            return rows, columns
    return guess_grid(count - 1, where)


def _original_decoder(
    tensors: Mapping[str, np.ndarray], in_channels: int, where: str
) -> DecoderConfig:
    final = _tensor(tensors, "keypoint_head.final_layer.weight", where, 4)
    filters = _filters(tensors, "keypoint_head.deconv_layers.{}.weight", 0, 3)
    kind = "classic" if filters or final.shape[-1] == 1 else "simple"
    return DecoderConfig(kind, final.shape[0], in_channels, filters)


def _take_head(tensors: dict[str, np.ndarray], dataset: str, where: str) -> dict[str, np.ndarray]:
    """Puts the data set's head of a ViTPose+ file in the place of the main one."""
    prefix = f"associate_keypoint_heads.{EXPERT_DATASETS.index(dataset) - 1}."
    others = [key for key in tensors if key.startswith("associate_keypoint_heads.")]
    if not others:
        return tensors
    head = {key: tensors[key] for key in others if key.startswith(prefix)}
    if not head:
        count = len({key.split(".")[1] for key in others}) + 1
        raise UserError(
            f"{where}: no head for {dataset}; it has those of {', '.join(EXPERT_DATASETS[:count])}"
        )
    kept = {k: t for k, t in tensors.items() if not k.startswith(("keypoint_head.", prefix))}
    # Released files pad final layers; the authors' own splitting cuts them like this.
    keypoints = SKELETONS[dataset].num_keypoints
    for key, tensor in head.items():
        name = "keypoint_head." + key.removeprefix(prefix)
        kept[name] = tensor[:keypoints] if ".final_layer." in name else tensor
    return kept


def _settle_dataset(found: Architecture, dataset: str | None, where: str) -> Architecture:
    """Checks the data set against the head, or finds it by the head's keypoints for experts."""
    if found.decoder is None:
        if dataset is not None:
            raise UserError(
                f"{where}: holds a backbone only, without a head for {dataset}; take the file that "
                "has its heads, or leave the data set out"
            )
        return found
    count = found.decoder.num_keypoints
    if dataset is not None and SKELETONS[dataset].num_keypoints != count:
        raise UserError(
            f"{where}: its head gives {count} keypoints, but {dataset} has "
            f"{SKELETONS[dataset].num_keypoints}"
        )
    notes = found.notes
    dataset = dataset or found.dataset
    if dataset is None and found.backbone.num_experts:
        matching = [name for name in EXPERT_DATASETS if SKELETONS[name].num_keypoints == count]
        dataset = matching[0] if matching else None
        if dataset is not None:
            notes += (
                f"mixture of experts: the head and expert of {dataset} unless told otherwise",
            )
    return replace(found, dataset=dataset, notes=notes)


def _filters(tensors: Mapping[str, np.ndarray], key: str, first: int, step: int) -> tuple[int, ...]:
    """Output channels of the deconvolutions whose keys are counted from `first` by `step`."""
    filters = []
    while (tensor := tensors.get(key.format(first + step * len(filters)))) is not None:
        if tensor.ndim != 4:
            break
        filters.append(tensor.shape[1])
    return tuple(filters)


def _tensor(
    tensors: Mapping[str, np.ndarray], key: str, where: str, ndim: int | None = None
) -> np.ndarray:
    if key not in tensors:
        raise UserError(f"{where}: tensor {key!r} is missing; not a ViTPose checkpoint")
    if ndim is not None and tensors[key].ndim != ndim:
        raise UserError(
            f"{where}: tensor {key!r} has shape {tensors[key].shape}, expected {ndim} dimensions; "
            "not a ViTPose checkpoint"
        )
    return tensors[key]


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
