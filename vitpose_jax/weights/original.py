"""Checkpoints of the original code (an mmpose fork), and of MAE pretraining: read and written.

Also those of the ViTPose-FPN study, with its necks as its code runs them.
"""

import contextlib
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import EXPERT_DATASETS, SKELETONS
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.necks import NeckConfig
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import VIT_SIZES, ViTConfig
from vitpose_jax.weights.checkpoint import Architecture, Checkpoint, Hints
from vitpose_jax.weights.mapping import table_rows, to_torch
from vitpose_jax.weights.native import Stored
from vitpose_jax.weights.positions import guess_grid
from vitpose_jax.weights.tensors import write_torch_file

LAYER_NORM_EPS = 1e-6  # written into the authors' code, not into their files
PATCH_KERNEL = "backbone.patch_embed.proj.weight"
MAE_HUGE_PATCH = 14  # pixels; the other pretraining files have ViTPose's 16
HEADS_OF_WIDTH = {config.width: config.num_heads for config in VIT_SIZES.values()}
DENSE_STRIDES = (1, 2, 4, 8)
STUDY_TAPS = (3, 7, 11)


def recognise_original(checkpoint: Checkpoint, hints: Hints) -> Architecture:
    """Read the architecture off the tensors of an original or a pretraining file.

    Raises:
        UserError: not a ViTPose checkpoint, or something it does not tell is needed.
    """
    checkpoint, notes = _usual_form(checkpoint)
    backbone = _backbone(checkpoint, hints)
    tensors = checkpoint.tensors
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

    if hints.backbone_only or not any(key.startswith("keypoint_head.") for key in tensors):
        return Architecture("original", backbone, None, hints.dataset, tensors, tuple(notes))
    if not backbone.num_experts and any(".experts." in key for key in tensors):
        notes.append("its experts are merged into the shared layers already: a plain ViT")
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


def _usual_form(checkpoint: Checkpoint) -> tuple[Checkpoint, list[str]]:
    """The checkpoint with its backbone and last layer under their usual keys, and notes on that."""
    # The FPN study's fusion head keeps its last layer in a list of one.
    listed, usual = "keypoint_head.final_layer.0.", "keypoint_head.final_layer."
    tensors = {key.replace(listed, usual): t for key, t in checkpoint.tensors.items()}
    notes = []
    if "backbone.pos_embed" not in tensors and "pos_embed" in tensors:
        tensors = _from_pretraining(tensors)
        notes.append("pretraining file: backbone only")
        kernel = replace(checkpoint, tensors=tensors).tensor(PATCH_KERNEL, 4)
        if kernel.shape[2:] == (MAE_HUGE_PATCH, MAE_HUGE_PATCH):
            # As the authors' code does (`patch_padding='pad'`).
            tensors[PATCH_KERNEL] = np.pad(kernel, ((0, 0), (0, 0), (1, 1), (1, 1)))
            notes.append("patches of 14x14 pixels: kernel padded with zeros to 16x16")
    if "backbone.pos_embed" not in tensors:
        names = ", ".join(list(tensors)[:3])
        raise UserError(
            f"{checkpoint.where}: not a ViTPose checkpoint: tensor 'backbone.pos_embed' is missing "
            f"(it has {names}, ...)"
        )
    return replace(checkpoint, tensors=tensors), notes


def _from_pretraining(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keys of an MAE file as the table has them; its `norm` is the encoder's final norm."""
    renamed = {}
    for key, tensor in tensors.items():
        if re.match(r"pos_embed$|patch_embed\.|blocks\.|last_norm\.|norm\.", key):
            key = "backbone." + re.sub(r"^norm\.", "last_norm.", key)
        renamed[key] = tensor
    return renamed


def _backbone(checkpoint: Checkpoint, hints: Hints) -> ViTConfig:
    positions = checkpoint.tensor("backbone.pos_embed", 3)
    width = positions.shape[-1]
    patch = checkpoint.tensor(PATCH_KERNEL, 4).shape[-1]
    fc1 = checkpoint.tensor("backbone.blocks.0.mlp.fc1.weight", 2)
    fc2 = checkpoint.tensor("backbone.blocks.0.mlp.fc2.weight", 2)
    blocks = _numbers(checkpoint.tensors, r"backbone\.blocks\.(\d+)\..*")
    experts = _numbers(checkpoint.tensors, r"backbone\.blocks\.0\.mlp\.experts\.(\d+)\.weight")
    part = width - fc2.shape[0] if experts else 0
    num_heads = hints.num_heads
    if num_heads is None:
        if width not in HEADS_OF_WIDTH:
            raise UserError(
                f"{checkpoint.where}: the number of attention heads cannot be read off a "
                f"checkpoint of width {width}; pass num_heads= (--num-heads on the command line)"
            )
        num_heads = HEADS_OF_WIDTH[width]
    rows, columns = _grid(positions.shape[1], patch, hints.input_size, checkpoint.where)
    return ViTConfig(
        width=width,
        depth=max(blocks) + 1,
        num_heads=num_heads,
        mlp_ratio=fc1.shape[0] / width,
        input_size=(rows * patch, columns * patch),
        patch_size=patch,
        num_experts=len(experts) if part > 0 else 0,
        part_features=max(part, 0),
    )


def _grid(
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


def _decoder(checkpoint: Checkpoint, in_channels: int) -> DecoderConfig:
    final = checkpoint.tensor("keypoint_head.final_layer.weight", 4)
    filters = checkpoint.deconv_filters("keypoint_head.deconv_layers.{}.weight", 0, 3)
    kind = "classic" if filters or final.shape[-1] == 1 else "simple"
    return DecoderConfig(kind, final.shape[0], in_channels, filters)


def _take_head(checkpoint: Checkpoint, dataset: str) -> Checkpoint:
    """Put the data set's head of a ViTPose+ file in the place of the main one."""
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
    # Released files pad final layers; the authors' own splitting cuts them like this.
    keypoints = SKELETONS[dataset].num_keypoints
    for key, tensor in head.items():
        name = "keypoint_head." + key.removeprefix(prefix)
        kept[name] = tensor[:keypoints] if ".final_layer." in name else tensor
    return replace(checkpoint, tensors=kept)


def _neck(
    checkpoint: Checkpoint, width: int, hints: Hints
) -> tuple[NeckConfig | None, tuple[str, ...]]:
    """The neck behind a backbone of that width, and notes on what was assumed of it.

    A checkpoint does not tell the strides, nor the blocks that a fusion taps: without hints they
    are those of the study's configurations.
    """
    where, tensors = checkpoint.where, checkpoint.tensors
    if levels := len(_numbers(tensors, r"neck\.bottom_convs\.(\d+)\.weight")):
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
    if levels := len(_numbers(tensors, r"keypoint_head\.proj_layers\.(\d+)\.weight")):
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
    note = f"the file does not tell the neck's {what}: took {chosen} (--fpn-{what} for others)"
    return chosen, (note,) if given is None else ()


def _numbers(keys: Collection[str], pattern: str) -> set[int]:
    """The numbers that the pattern's group captures among the keys."""
    return {int(found.group(1)) for key in keys if (found := re.fullmatch(pattern, key))}
