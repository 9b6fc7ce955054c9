"""Checkpoints of the ViTPose-FPN study: which neck they hold, and its part of the table.

Strides of its pyramids and the blocks its fusion taps are not in a checkpoint; they are given, or
else those of the study's configurations.
"""

import re
from collections.abc import Mapping

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.models.necks import NeckConfig
from vitpose_jax.weights.mapping import Row

DENSE_STRIDES = (1, 2, 4, 8)
STUDY_TAPS = (3, 7, 11)

# Columns as in `mapping`: ours, layout, original; `{i}` counts the levels.
STRIDED = (
    ("neck.bottom_convs.{i}", "pixel conv", "neck.bottom_convs.{i}"),
    ("neck.lateral_convs.{i}", "pixel conv", "neck.lateral_convs.{i}"),
    ("neck.output_convs.{i}", "conv", "neck.output_convs.{i}"),
)
BLOCKS = (
    ("neck.proj_layers.{i}", "pixel conv", "keypoint_head.proj_layers.{i}"),
    ("neck.stride_convs.{i}", "conv", "keypoint_head.fpn_stride_convs.{i}"),
    ("neck.smooth_convs.{i}", "conv", "keypoint_head.smooth_convs.{i}.0"),
)
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def recognise_neck(
    tensors: Mapping[str, np.ndarray],
    width: int,
    where: str,
    strides: tuple[int, ...] | None = None,
    taps: tuple[int, ...] | None = None,
) -> tuple[NeckConfig | None, tuple[str, ...]]:
    """The neck of an original checkpoint, as its code runs it, and notes on what was assumed.

    Args:
        tensors: the checkpoint's.
        width: channels of the backbone.
        where: the file, for messages.
        strides, taps: what the checkpoint does not tell; None takes the study's.

    Raises:
        UserError: another kind of neck, or as many strides or taps as the file has not.
    """
    if levels := _count(tensors, r"neck\.bottom_convs\.(\d+)\.weight"):
        strides, notes = _given(strides, DENSE_STRIDES, levels, "strides", where)
        first = tensors.get("keypoint_head.deconv_layers.0.weight")
        inputs = first.shape[0] if first is not None else width
        if inputs not in (width, levels * width):
            raise UserError(f"{where}: the decoder takes {inputs} channels of {levels} x {width}")
        fuse = "concat" if inputs == levels * width else "first"
        as_coded = {"cumulative": True, "downsample": "subsample", "top_down": "coarsest"}
        return NeckConfig("strided", width, strides, fuse=fuse, **as_coded), notes
    if levels := _count(tensors, r"keypoint_head\.proj_layers\.(\d+)\.weight"):
        thirds = tuple(3**i for i in reversed(range(levels)))
        strides, notes = _given(strides, thirds, levels, "strides", where)
        taps, more = _given(taps, STUDY_TAPS, levels, "taps", where)
        return NeckConfig("blocks", width, strides, taps, tap_norm=False), notes + more
    if necks := sorted(key for key in tensors if key.startswith("neck.")):
        raise UserError(f"{where}: its neck ({necks[0]}, ...) is of an unknown kind")
    if strides or taps:
        raise UserError(f"{where}: strides or taps of a neck were given, but it has no neck")
    return None, ()


def neck_rows(config: NeckConfig | None) -> list[Row]:
    """The table written out for one neck of the study; Hugging Face has none."""
    if config is None:
        return []
    rows = []
    for i in range(len(config.strides)):
        for ours, layout, theirs in STRIDED if config.kind == "strided" else BLOCKS:
            ours, theirs = ours.format(i=i), theirs.format(i=i)
            rows.append(Row(f"{ours}.kernel", layout, (f"{theirs}.weight",), ()))
            rows.append(Row(f"{ours}.bias", "same", (f"{theirs}.bias",), ()))
        if config.kind == "blocks":
            theirs = f"keypoint_head.smooth_convs.{i}.1"
            rows += [
                Row(f"neck.smooth_norms.{i}.{a}", "same", (f"{theirs}.{b}",), ())
                for a, b in NORM.items()
            ]
    return rows


def plain_head_keys(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The fusion head's last layer lies in a list of one; here it gets its usual key."""
    old, new = "keypoint_head.final_layer.0.", "keypoint_head.final_layer."
    return {key.replace(old, new): tensor for key, tensor in tensors.items()}


def _count(tensors: Mapping[str, np.ndarray], pattern: str) -> int:
    return len([key for key in tensors if re.fullmatch(pattern, key)])


def _given(
    values: tuple[int, ...] | None,
    default: tuple[int, ...],
    levels: int,
    what: str,
    where: str,
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    chosen = default if values is None else tuple(values)
    if len(chosen) != levels:
        raise UserError(f"{where}: its neck has {levels} levels; give {levels} {what}")
    option = "--fpn-" + what
    note = f"the file does not tell the neck's {what}: {chosen} taken ({option} for others)"
    return chosen, (note,) if values is None else ()
