"""Reading and writing checkpoints of the original code (an mmpose fork) and of MAE pretraining.

Also reads those of the ViTPose-FPN study, with its necks as its code runs them.
"""

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import EXPERT_DATASETS, SKELETONS
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import VIT_SIZES, ViTConfig
from vitpose_jax.weights.checkpoint import Architecture, Checkpoint, Hints
from vitpose_jax.weights.mapping import table_rows, to_torch
from vitpose_jax.weights.native import Stored
from vitpose_jax.weights.positions import guess_grid
from vitpose_jax.weights.tensors import write_torch_file

LAYER_NORM_EPS = 1e-6  # fixed in the authors' code, not stored in their files
PATCH_KERNEL = "backbone.patch_embed.proj.weight"
SMALL_PATCH = 14  # pixels, for MAE's huge model and DINOv2; others have ViTPose's 16
SMALL_WIDTH = 384  # the one width at which pretraining files differ in their attention heads
HEADS_OF_WIDTH = {config.width: config.num_heads for config in VIT_SIZES.values()}
DENSE_STRIDES = (1, 2, 4, 8)
STUDY_TAPS = (3, 7, 11)

# Keys that belong to the encoder in a pretraining file without prefixes.
BARE_KEY = re.compile(
    r"(pos_embed|patch_embed|blocks|layers|last_norm|norm|ln1|norm_pre|pre_norm|reg_tokens?"
    r"|register_tokens?|storage_tokens|rope|rope_embed|rotary\w*|rel_pos\w*)(\.|$)"
)
HEAD_OF_MMPOSE1 = r"head\.(conv_layers|deconv_layers|final_layer)\."
NAMES_OF_MMPOSE1 = (  # and of mmpretrain, whose ViT it uses
    (r"^backbone\.patch_embed\.projection\.", "backbone.patch_embed.proj."),
    (r"^backbone\.layers\.", "backbone.blocks."),
    (r"^(backbone\.blocks\.\d+)\.ln([12])\.", r"\1.norm\2."),
    (r"^(backbone\.blocks\.\d+)\.ffn\.layers\.0\.0\.", r"\1.mlp.fc1."),
    (r"^(backbone\.blocks\.\d+)\.ffn\.layers\.1\.", r"\1.mlp.fc2."),
    (r"^backbone\.ln1\.", "backbone.last_norm."),
)
OTHER_NAMES = (
    (r"^backbone\.norm\.", "backbone.last_norm."),  # timm, MAE, DINO
    (r"^backbone\.blocks\.\d+\.(?=\d+\.)", "backbone.blocks."),  # DINOv2's chunks of blocks
    # The FPN study's fusion head keeps its last layer in a list of one.
    (r"^keypoint_head\.final_layer\.0\.", "keypoint_head.final_layer."),
)
# timm and DINOv2 (ls1.gamma), BEiT (gamma_1), mmpretrain (attn.gamma1.weight), DINOv2 elsewhere.
LAYER_SCALE = re.compile(
    r"(backbone\.blocks\.\d+\.)(?:(?:attn|ffn|mlp)\.)?(?:ls|gamma_?|lambda_?|layer_scale_?)([12])"
    r"(?:\.(?:gamma|weight|scale|lambda1?))?"
)
FOREIGN = (
    (r"\.(reg_tokens?|register_tokens?|storage_tokens)$", "register tokens"),
    (r"rope|rotary|freqs|rel_pos|relative_position", "rotary or relative positions"),
    (r"\.(\w*[qk]_norm|norm_[qk]|(attn|mlp)\.norm|\w+_ln)\.", "norms within the layers"),
    (r"\.(w12|w[123]|fc1_[gx]|gate_proj|up_proj)\.", "a gated MLP (SwiGLU)"),
    (r"\.(norm_pre|pre_norm|patch_embed\.norm)\.", "a norm before the blocks"),
)


def recognise_original(checkpoint: Checkpoint, hints: Hints) -> Architecture:
    """Determine the architecture from the tensors of an original or a pretraining file.

    Raises:
        UserError: it is not a ViTPose checkpoint, or a hint is needed.
    """
    checkpoint, notes = _usual_form(checkpoint, hints)
    backbone = _backbone(checkpoint, hints)
    tensors = checkpoint.tensors
    rows, columns = backbone.grid_size
    if tensors["backbone.pos_embed"].shape[1] == rows * columns:
        # Add a zero row for the class token; the model adds that row to all others.
        tensors["backbone.pos_embed"] = np.pad(
            tensors["backbone.pos_embed"], ((0, 0), (1, 0), (0, 0))
        )
        notes.append("position embedding without a class token's row: a zero row was added")
    if "backbone.last_norm.weight" not in tensors:
        notes.append("no final norm in the file: it starts as the identity")
        tensors["backbone.last_norm.weight"] = np.ones(backbone.width, np.float32)
        tensors["backbone.last_norm.bias"] = np.zeros(backbone.width, np.float32)
    if fold_layer_scale(checkpoint):
        notes.append("LayerScale was multiplied into the preceding layers, an exact equivalent")

    if hints.backbone_only or not any(key.startswith("keypoint_head.") for key in tensors):
        return Architecture("original", backbone, None, hints.dataset, tensors, tuple(notes))
    if not backbone.num_experts and any(".experts." in key for key in tensors):
        notes.append("its experts are already merged into the shared layers: a plain ViT")
    elif hints.dataset not in (None, EXPERT_DATASETS[0]):
        checkpoint = _take_head(checkpoint, hints.dataset)
    neck, assumed = _neck(checkpoint, backbone.width, hints)
    decoder = _decoder(checkpoint, neck.out_channels if neck else backbone.width)
    return Architecture(
        naming="original",
        backbone=backbone,
        decoder=decoder,
        dataset=hints.dataset,
        tensors=checkpoint.tensors,
        notes=(*notes, *assumed),
        neck=neck,
    )


def write_original(stored: Stored, file: str | Path) -> tuple[str, ...]:
    """Write a `.pth` that the authors' code loads.

    Returns:
        Notes for the user.

    Raises:
        UserError: torch is not installed, the model has a neck, or the file cannot be written.
    """
    if isinstance(stored.config, PoseConfig) and stored.config.neck is not None:
        raise UserError("a model with a neck cannot be written as a PyTorch file")
    write_torch_file(file, to_torch(stored.arrays, table_rows(stored.config), "original"))
    eps = stored.backbone.layer_norm_eps
    if eps == LAYER_NORM_EPS:
        return ()
    return (
        f"the weights were made for layer_norm_eps {eps}; the original code uses {LAYER_NORM_EPS}",
    )


def _usual_form(checkpoint: Checkpoint, hints: Hints) -> tuple[Checkpoint, list[str]]:
    """The checkpoint with its tensors renamed to the table's keys, and notes on that."""
    where, keys, notes = checkpoint.where, checkpoint.tensors.keys(), []
    if any(re.match(r"(backbone\.)?embeddings\.", key) for key in keys):
        raise UserError(
            f"{where}: has transformers' names; give the folder, since config.json is needed too"
        )
    is_mmpose1 = any(re.match(r"(backbone\.)?layers\.\d+\.ln1\.", key) for key in keys)
    is_bare = not any(key.startswith("backbone.") for key in keys)
    has_head = any(re.match(HEAD_OF_MMPOSE1, key) for key in keys)
    tensors: dict[str, np.ndarray] = {}
    for key, tensor in checkpoint.tensors.items():
        name = f"backbone.{key}" if is_bare and BARE_KEY.match(key) else key
        if has_head:
            name = re.sub(r"^head\.", "keypoint_head.", name)
        for pattern, usual in NAMES_OF_MMPOSE1 if is_mmpose1 else ():
            name = re.sub(pattern, usual, name)
        for pattern, usual in OTHER_NAMES:
            name = re.sub(pattern, usual, name)
        if name in tensors:
            raise UserError(f"{where}: {key!r} is there twice, under different names")
        tensors[name] = tensor
    checkpoint = replace(checkpoint, tensors=tensors)
    refuse_foreign(checkpoint)
    positions = tensors.get("backbone.pos_embed")
    if positions is None:
        names = ", ".join(key[:40] for key in list(tensors)[:3])
        raise UserError(
            f"{where}: not a ViTPose checkpoint: tensor 'backbone.pos_embed' is missing (it has "
            f"{names}, ...)"
        )
    class_token = {"cls_token", "backbone.cls_token"} & tensors.keys()
    if class_token and is_mmpose1 and has_head and not hints.backbone_only:
        raise UserError(
            f"{where}: tensor 'backbone.cls_token': its network has a class token beside the "
            "patches, unlike ViTPose; only its backbone can be used, to start training from"
        )
    if is_bare or class_token or (is_mmpose1 and not has_head):
        notes += _pretraining_notes(tensors)
        kernel = checkpoint.tensor(PATCH_KERNEL, 4)
        if kernel.shape[2:] == (SMALL_PATCH, SMALL_PATCH):
            # As the authors' code does (`patch_padding='pad'`).
            tensors[PATCH_KERNEL] = np.pad(kernel, ((0, 0), (0, 0), (1, 1), (1, 1)))
            notes.append("patches of 14x14 pixels: kernel padded with zeros to 16x16")
    return checkpoint, notes


def _pretraining_notes(tensors: dict[str, np.ndarray]) -> list[str]:
    """Notes on what is dropped from a network with a class token or without a head.

    Also removes the distillation token's row from the position embedding.
    """
    is_whole = any(key.startswith("keypoint_head.") for key in tensors)
    notes = [] if is_whole else ["pretraining file: backbone only"]
    positions = tensors["backbone.pos_embed"]
    if {"dist_token", "backbone.dist_token"} & tensors.keys() and positions.ndim == 3:
        positions = tensors["backbone.pos_embed"] = np.delete(positions, 1, axis=1)
        notes.append("DeiT's distillation token was left out, with its position")
    if {"cls_token", "backbone.cls_token"} & tensors.keys():
        added = ", and its position is added to every patch's" if positions[:, :1].any() else ""
        notes.append(f"the class token was left out{added}, as in the authors' code")
    if not is_whole and positions.shape[-1] == SMALL_WIDTH:
        notes.append(
            "the file does not give the number of attention heads, which must be right: ViTPose-S "
            "has 12, the small models of DeiT, DINO and timm have 6"
        )
    return notes


def fold_layer_scale(checkpoint: Checkpoint) -> bool:
    """Multiply LayerScale's factors, in place, into the layers whose outputs they scale.

    Returns:
        Whether there were any.

    Raises:
        UserError: factors do not fit their layer.
    """
    tensors = checkpoint.tensors
    found = [match for key in tensors if (match := LAYER_SCALE.fullmatch(key))]
    if len({match.groups() for match in found}) < len(found):
        raise UserError(f"{checkpoint.where}: scales a layer twice ({found[0].group()!r}, ...)")
    for match in found:
        gamma = tensors.pop(match.group()).astype(np.float32).reshape(-1)
        layer = match.group(1) + ("attn.proj" if match.group(2) == "1" else "mlp.fc2")
        weight = checkpoint.tensor(f"{layer}.weight", 2)
        experts = rf"{re.escape(match.group(1))}mlp\.experts\.\d+\.(weight|bias)"
        scaled = {f"{layer}.weight": slice(0, len(weight)), f"{layer}.bias": slice(0, len(weight))}
        if match.group(2) == "2":  # the experts' outputs come after the shared ones
            scaled |= {k: slice(len(weight), None) for k in tensors if re.fullmatch(experts, k)}
        for key, part in scaled.items():
            tensor = checkpoint.tensor(key)
            factors = np.broadcast_to(gamma, len(tensor)) if gamma.size == 1 else gamma[part]
            if len(factors) != len(tensor):
                raise UserError(
                    f"{checkpoint.where}: tensor {match.group()!r} has {gamma.size} factors, which "
                    f"does not fit {key!r} of shape {tensor.shape}"
                )
            tensors[key] = tensor * factors.reshape(-1, *[1] * (tensor.ndim - 1))
    return bool(found)


def refuse_foreign(checkpoint: Checkpoint) -> None:
    """Raise UserError if a backbone has parts that ViTPose's network does not have."""
    for key in checkpoint.tensors:
        for pattern, part in FOREIGN:
            if key.startswith("backbone.") and re.search(pattern, key):
                raise UserError(
                    f"{checkpoint.where}: tensor {key[:120]!r} belongs to {part}, which ViTPose's "
                    "network does not have; choose weights of a plain ViT"
                )


def _backbone(checkpoint: Checkpoint, hints: Hints) -> ViTConfig:
    positions = checkpoint.tensor("backbone.pos_embed", 3)
    width = positions.shape[-1]
    patch = checkpoint.tensor(PATCH_KERNEL, 4).shape[-1]
    fc1 = checkpoint.tensor("backbone.blocks.0.mlp.fc1.weight", 2)
    fc2 = checkpoint.tensor("backbone.blocks.0.mlp.fc2.weight", 2)
    depth = checkpoint.count(r"backbone\.blocks\.(\d+)\..*")
    experts = checkpoint.count(r"backbone\.blocks\.0\.mlp\.experts\.(\d+)\.weight")
    if fc1.shape[0] == 2 * fc2.shape[1]:
        raise UserError(
            f"{checkpoint.where}: tensor 'backbone.blocks.0.mlp.fc1.weight' is twice as wide as "
            "the layer after it takes (SwiGLU), which ViTPose's network does not have"
        )
    part = width - fc2.shape[0] if experts else 0
    num_heads = hints.num_heads
    if num_heads is None:
        if width not in HEADS_OF_WIDTH:
            raise UserError(
                f"{checkpoint.where}: the number of attention heads cannot be inferred for a "
                f"checkpoint of width {width}; pass num_heads= (--num-heads on the command line)"
            )
        num_heads = HEADS_OF_WIDTH[width]
    rows, columns = _grid(positions.shape[1], patch, hints.input_size, checkpoint.where)
    return ViTConfig(
        width=width,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=fc1.shape[0] / width,
        input_size=(rows * patch, columns * patch),
        patch_size=patch,
        num_experts=experts if part > 0 else 0,
        part_features=max(part, 0),
    )


def _grid(
    count: int, patch: int, input_size: tuple[int, int] | None, where: str
) -> tuple[int, int]:
    """The grid of `count` position embeddings, the first of which is usually the class token's."""
    for positions in (count - 1, count):
        with contextlib.suppress(UserError):
            return guess_grid(positions, where)
    # Tried last: the user may want a new size, which could have the same number by chance.
    if input_size is not None:
        rows, columns = (side // patch for side in input_size)
        if rows * columns in (count, count - 1):
            return rows, columns
    return guess_grid(count - 1, where)


def _decoder(checkpoint: Checkpoint, in_channels: int) -> DecoderConfig:
    final = checkpoint.tensor("keypoint_head.final_layer.weight", 4)
    filters = checkpoint.deconv_filters("keypoint_head.deconv_layers.{}.weight", 0, 3)
    kind = "classic" if filters or final.shape[-1] == 1 else "simple"
    return DecoderConfig(kind, final.shape[0], in_channels, filters)


def _take_head(checkpoint: Checkpoint, dataset: str) -> Checkpoint:
    """Replace the main head of a ViTPose+ file by the data set's head."""
    prefix = f"associate_keypoint_heads.{EXPERT_DATASETS.index(dataset) - 1}."
    others = [key for key in checkpoint.tensors if key.startswith("associate_keypoint_heads.")]
    if not others:
        return checkpoint
    head = {key: checkpoint.tensors[key] for key in others if key.startswith(prefix)}
    if not head:
        there = EXPERT_DATASETS[: len({key.split(".")[1] for key in others}) + 1]
        raise UserError(
            f"{checkpoint.where}: no head for {dataset}; it has those of {', '.join(there)}"
        )
    replaced = ("keypoint_head.", prefix)
    kept = {k: t for k, t in checkpoint.tensors.items() if not k.startswith(replaced)}
    # Released files pad final layers; the authors' own splitting script cuts them like this.
    keypoints = SKELETONS[dataset].num_keypoints
    for key, tensor in head.items():
        name = "keypoint_head." + key.removeprefix(prefix)
        kept[name] = tensor[:keypoints] if ".final_layer." in name else tensor
    return replace(checkpoint, tensors=kept)


def _neck(
    checkpoint: Checkpoint, width: int, hints: Hints
) -> tuple[NeckConfig | None, tuple[str, ...]]:
    """The neck behind a backbone of this width, and notes on what was assumed about it.

    A checkpoint does not give the strides or the blocks that a fusion taps: without hints, those of
    the study's configurations are used.
    """
    where, tensors = checkpoint.where, checkpoint.tensors
    if levels := checkpoint.count(r"neck\.bottom_convs\.(\d+)\.weight"):
        strides, notes = _chosen(hints.fpn_strides, DENSE_STRIDES, levels, "strides", where)
        first = tensors.get("keypoint_head.deconv_layers.0.weight")
        inputs = first.shape[0] if first is not None else width
        if inputs not in (width, levels * width):
            raise UserError(f"{where}: the decoder takes {inputs} channels of {levels} x {width}")
        neck = NeckConfig(
            kind="strided",
            width=width,
            strides=strides,
            cumulative=True,
            downsample="subsample",
            top_down="coarsest",
            fuse="concat" if inputs == levels * width else "first",
        )
        return neck, notes
    if levels := checkpoint.count(r"keypoint_head\.proj_layers\.(\d+)\.weight"):
        thirds = tuple(3**i for i in reversed(range(levels)))
        strides, notes = _chosen(hints.fpn_strides, thirds, levels, "strides", where)
        taps, more = _chosen(hints.fpn_taps, STUDY_TAPS, levels, "taps", where)
        return NeckConfig("blocks", width, strides, taps, tap_norm=False), notes + more
    if necks := sorted(key for key in tensors if key.startswith("neck.")):
        raise UserError(f"{where}: its neck ({necks[0]}, ...) is of an unknown kind")
    if hints.fpn_strides or hints.fpn_taps:
        raise UserError(f"{where}: strides or taps of a neck were given, but it has no neck")
    return None, ()


def _chosen(
    given: tuple[int, ...] | None, default: tuple[int, ...], levels: int, what: str, where: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    chosen = default if given is None else given
    if len(chosen) != levels:
        raise UserError(f"{where}: its neck has {levels} levels; give {levels} {what}")
    note = (
        f"the file does not give the neck's {what}: assuming {chosen} (to change this, use "
        f"`vitpose convert --fpn-{what}`)"
    )
    return chosen, (note,) if given is None else ()
