"""Loading models from any source: our own folders, PyTorch files, transformers folders, hub ids."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vitpose_jax.errors import UserError, short_errors
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton, expert_index, plain_names
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViT, ViTConfig
from vitpose_jax.weights.checkpoint import Hints
from vitpose_jax.weights.conversion import convert_cached
from vitpose_jax.weights.native import (
    Stored,
    build_backbone,
    build_pose_model,
    fill,
    is_native,
    read_folder,
)
from vitpose_jax.weights.original import HEADS_OF_WIDTH
from vitpose_jax.weights.positions import resized
from vitpose_jax.weights.sources import resolve_source
from vitpose_jax.weights.tensors import read_config

log = logging.getLogger("vitpose_jax")

Part = Literal["backbone", "neck", "decoder"]


@short_errors
def load_pose_model(
    source: str | Path,
    *,
    dtype: DTypeLike = jnp.float32,
    input_size: tuple[int, int] | None = None,
    num_heads: int | None = None,
    dataset: str | None = None,
    skeleton: Skeleton | None = None,
    ema: bool = False,
) -> PoseModel:
    """The pose model with the weights of `source`.

    Args:
        source: our own folder (`save_pose_model`, `vitpose convert`), an original `.pth`, a
            transformers folder, or a Hugging Face hub id. All but the first are converted, and the
            result is cached in the user's cache folder.
        dtype: compute dtype, float32 or bfloat16; parameters are always float32.
        input_size: (height, width) in pixels, multiples of 16; if it differs from the weights'
            own, the position grid is interpolated.
        num_heads: attention heads, for an original file of an unusual width.
        dataset: a name in `SKELETONS`: the data set whose head to take from a ViTPose+ file, and
            whose expert to use by default.
        skeleton: the keypoints, if the weights do not name them or name them wrongly.
        ema: take the averaged copy that some training programs store beside the weights.

    Raises:
        UserError: the source is unreadable, tensors are missing or misshapen, or an option is
            needed but not given.

    Example:
        >>> model = load_pose_model("weights/vitpose-b")
        >>> crops = np.zeros((2, 256, 192, 3), np.float32)
        >>> model(crops).shape  # heatmaps
        (2, 64, 48, 17)
    """
    where = str(source)
    hints = Hints(num_heads=num_heads, dataset=dataset, input_size=input_size, ema=ema)
    stored = resized(load_stored(source, hints), input_size, where)
    if isinstance(stored.config, ViTConfig):
        raise UserError(
            f"{where}: holds a backbone only, without a decoder that gives heatmaps; "
            "start training from it instead"
        )
    config = stored.config
    if skeleton is not None:
        config = with_skeleton(config, skeleton, where)
    return build_pose_model(config, stored.arrays, dtype, where)


def with_skeleton(config: PoseConfig | ViTConfig, skeleton: Skeleton, where: str) -> PoseConfig:
    """The same configuration with other names for its keypoints.

    Raises:
        UserError: it has no decoder, or its decoder has another number of keypoints.
    """
    if isinstance(config, ViTConfig):
        raise UserError(f"{where}: holds a backbone only, which finds no keypoints to be named")
    if skeleton.num_keypoints != config.num_keypoints:
        raise UserError(
            f"{where}: its decoder gives {config.num_keypoints} keypoints, but the skeleton "
            f"{skeleton.name} has {skeleton.num_keypoints}"
        )
    theirs = keypoint_names(config)
    if theirs and plain_names(theirs) != plain_names(skeleton.keypoint_names):
        log.warning(
            "%s: names its keypoints %s, ...; the skeleton %s is used instead",
            where,
            ", ".join(theirs[:3]),
            skeleton.name,
        )
    is_dataset = SKELETONS.get(skeleton.name) == skeleton
    dataset = config.dataset if config.backbone.num_experts else None
    dataset = dataset or (skeleton.name if is_dataset else None)
    own = None if dataset and SKELETONS[dataset] == skeleton else skeleton
    return replace(config, dataset=dataset, skeleton=own)


def load_backbone(
    source: str | Path,
    *,
    dtype: DTypeLike = jnp.float32,
    input_size: tuple[int, int] | None = None,
    num_heads: int | None = None,
) -> ViT:
    """Only the backbone, from a pretraining file or any source that `load_pose_model` takes."""
    where = str(source)
    hints = Hints(num_heads=num_heads, input_size=input_size, backbone_only=True)
    stored = resized(load_stored(source, hints), input_size, where)
    return build_backbone(stored.backbone, stored.arrays, dtype, where)


def load_weights_into(
    model: PoseModel, source: str | Path, parts: tuple[Part, ...] = ("backbone", "decoder")
) -> None:
    """Replace parts of a model, in place, by those of `source`, which may be a pretraining file.

    Without `parts`, those are replaced that fit: the backbone, and the neck and decoder if they are
    of the same kind and find the same keypoints (it is logged if they do not).

    The other parts of the model do not change. A decoder trained without a neck can be used behind
    a new neck, but one trained behind a neck needs that neck too. The position grid is interpolated
    to the model's input size.

    Raises:
        UserError: the model or the source lacks a part, or the two differ in it; the decoder finds
            other keypoints or would lose its neck; or a tensor is missing or misshapen.
    """
    where, config = str(source), model.config
    untold = not resolve_source(source).is_dir()
    stored = load_for_training(source, config.backbone, parts)
    parts = parts or _fitting_parts(config, stored, untold, where)
    _check_parts(config, stored, parts, untold, where)
    if "backbone" in parts:
        stored = resized(stored, config.input_size, where)
    for part in parts:
        module = getattr(model, part)
        state = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
        fill(state, stored.arrays, f"{part}.", where)
        nnx.update(module, state)


def load_for_training(source: str | Path, model: ViTConfig, parts: tuple[Part, ...] = ()) -> Stored:
    """Weights to start from, at their own input size.

    Args:
        source: as for `load_pose_model`.
        model: the backbone to be trained. A single file does not say its number of attention heads,
            on which no array depends: it is the model's for backbones of the same width, that of
            the published size for others, and 1 for the rest.
        parts: what is wanted of it; only a backbone may come from an unknown network.
    """
    path = resolve_source(source)
    untold = not path.is_dir()
    hints = Hints(
        num_heads=1 if untold else None,
        input_size=model.input_size,
        backbone_only=parts == ("backbone",),
    )
    stored = load_stored(path, hints)
    if not untold:
        return stored
    backbone = stored.backbone
    heads = {**HEADS_OF_WIDTH, model.width: model.num_heads}.get(backbone.width, 1)
    return stored.with_backbone(replace(backbone, num_heads=heads), stored.arrays)


def _fitting_parts(model: PoseConfig, stored: Stored, untold: bool, where: str) -> tuple[Part, ...]:
    """The parts of the weights that the model can use; logs which it cannot, and why."""
    there = stored.config
    if isinstance(there, ViTConfig):
        return ("backbone",)
    head: tuple[Part, ...] = ("neck", "decoder") if model.neck else ("decoder",)
    free = {"filters"} if there.decoder.kind == "simple" else set()
    try:
        _check_parts(model, stored, head, untold, where)
        _check_same_kind("decoder", there.decoder, model.decoder, free, where)
    except UserError as error:
        log.warning(
            "only the backbone of %s is used, and a new decoder is trained: %s", where, error
        )
        return ("backbone",)
    return ("backbone", *head)


def _check_parts(
    model: PoseConfig, stored: Stored, parts: tuple[Part, ...], untold: bool, where: str
) -> None:
    """Raise UserError if the model cannot use these parts, or cannot use them on their own."""
    ours = ["backbone", *(["neck"] if model.neck else []), "decoder"]
    theirs = {name.split(".")[0] for name in stored.arrays}
    for part in parts:
        if part not in ours:
            raise UserError(
                f"{where}: its {part} was asked for, but the model has no {part}, only "
                f"{', '.join(ours)}"
            )
        if part not in theirs:
            raise UserError(f"{where}: there is no {part} in it, only {', '.join(sorted(theirs))}")
    neck = stored.config.neck if isinstance(stored.config, PoseConfig) else None
    if neck is not None and "decoder" in parts and "neck" not in parts:
        raise UserError(
            f"{where}: its decoder was trained behind a neck of kind {neck.kind!r}; load that "
            "too, into a model that has one, or load only the backbone"
        )
    if "backbone" in parts:
        free = {"input_size", "drop_path_rate", "remat"} | ({"num_heads"} if untold else set())
        _check_same_kind("backbone", stored.backbone, model.backbone, free, where)
    if "neck" in parts and neck and model.neck:
        free = {"init_std"} | ({"strides", "taps"} if untold else set())
        _check_same_kind("neck", neck, model.neck, free, where)
    if "decoder" in parts:
        check_keypoints(stored.config, model, where)


def _check_same_kind(
    part: str,
    theirs: ViTConfig | NeckConfig | DecoderConfig,
    ours: ViTConfig | NeckConfig | DecoderConfig,
    free: set[str],
    where: str,
) -> None:
    """Raise UserError, listing the differences that affect the arrays or their meaning, if any."""
    values = {name: (value, getattr(ours, name)) for name, value in asdict(theirs).items()}
    differences = [
        f"{name} {value} (the model's: {wanted})"
        for name, (value, wanted) in values.items()
        if name not in free and value != wanted
    ]
    if differences:
        raise UserError(
            f"{where}: its {part} differs from the model's: {', '.join(differences)}; "
            "choose other weights, or a model that fits these"
        )


def check_keypoints(there: PoseConfig | ViTConfig, here: PoseConfig, where: str) -> None:
    """Raise UserError if the decoder of `there` is known to find other keypoints than `here`."""
    if isinstance(there, ViTConfig):
        return
    theirs, ours = keypoint_names(there), keypoint_names(here)
    plain = zip(plain_names(theirs), plain_names(ours), strict=False)
    differing = [index for index, (their, our) in enumerate(plain) if their != our]
    if not theirs or not ours or (len(theirs) == len(ours) and not differing):
        return
    if len(theirs) != len(ours):
        difference = f"{len(theirs)} ({', '.join(theirs)}), not {len(ours)} ({', '.join(ours)})"
    else:
        index = differing[0]
        difference = f"number {index} is {theirs[index]!r}, not {ours[index]!r}"
    raise UserError(
        f"the decoder of {where} finds other keypoints than the data has: {difference}. Give data "
        "with the same keypoints in the same order, or train from its backbone alone "
        "(config.init_parts)"
    )


def keypoint_names(config: PoseConfig) -> tuple[str, ...]:
    """The names of the decoder's keypoints, in the order of its heatmaps; empty if not known."""
    skeleton = config.skeleton or (SKELETONS[config.dataset] if config.dataset else None)
    return skeleton.keypoint_names if skeleton else ()


def load_stored(source: str | Path, hints: Hints = Hints()) -> Stored:
    """Configuration and arrays from any source, at the weights' own input size."""
    path, where = resolve_source(source), str(source)
    if not path.is_dir() or not is_native(read_config(path)):
        return convert_cached(path, hints, where)
    stored = read_folder(path)
    hints.check_num_heads(stored.backbone.num_heads, where)
    config, dataset = stored.config, hints.dataset
    if dataset is None or not isinstance(config, PoseConfig) or dataset == config.dataset:
        return stored
    expert_index(dataset)
    if config.dataset is not None:
        raise UserError(
            f"{where}: its decoder is for {config.dataset}, not {dataset}; convert the original "
            f"file again (`vitpose convert --dataset {dataset}`)"
        )
    return replace(stored, config=replace(config, dataset=dataset))
