"""Models from whatever the user has: our folders, PyTorch files, transformers folders, hub ids."""

import hashlib
import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import jax.numpy as jnp
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.files.cache import cache_folder
from vitpose_jax.models.necks import NeckConfig
from vitpose_jax.models.pose import EXPERT_DATASETS, PoseConfig, PoseModel
from vitpose_jax.models.vit import ViT, ViTConfig
from vitpose_jax.weights.conversion import convert
from vitpose_jax.weights.native import (
    Stored,
    build,
    fill,
    is_native,
    parameter_arrays,
    read_folder,
    write_folder,
)
from vitpose_jax.weights.positions import resize_positions
from vitpose_jax.weights.sources import read_config, resolve_source, weight_files

log = logging.getLogger("vitpose_jax")

CACHE_FORMAT = 3  # raise it when the conversion or the folder's layout changes


def load_pose_model(
    source: str | Path,
    *,
    dtype: jnp.dtype = jnp.float32,
    input_size: tuple[int, int] | None = None,
    num_heads: int | None = None,
    dataset: str | None = None,
) -> PoseModel:
    """The pose model with the weights of `source`.

    Args:
        source: a folder of ours (`save_pose_model`, convert/torch_to_flax.py), an original `.pth`,
            a transformers folder, or a Hugging Face hub id. All but the first are converted, and
            the result is kept in the user's cache folder.
        dtype: compute dtype, float32 or bfloat16; parameters are float32 always.
        input_size: (height, width) in pixels, multiples of 16; the position grid is interpolated
            where it differs from the weights' own.
        num_heads: attention heads, for an original file of an unusual width.
        dataset: a name in `SKELETONS`: which head of a ViTPose+ file to take,
            and whose expert to use by default.

    Raises:
        UserError: unreadable source, missing or misshapen tensors, or an option that is needed.
    """
    stored, where = load_stored(source, input_size, num_heads, dataset)
    if isinstance(stored.config, ViTConfig):
        raise UserError(
            f"{where}: holds a backbone only, without a decoder that gives heatmaps; "
            "start training from it instead"
        )
    return build(resized(stored, input_size, where), dtype, where)


def load_backbone(
    source: str | Path,
    *,
    dtype: jnp.dtype = jnp.float32,
    input_size: tuple[int, int] | None = None,
    num_heads: int | None = None,
) -> ViT:
    """The backbone alone, from any source that `load_pose_model` takes or a pretraining file."""
    stored, where = load_stored(source, input_size, num_heads, backbone_only=True)
    stored = resized(backbone_only(stored), input_size, where)
    return build(stored, dtype, where)


def save_pose_model(model: PoseModel, folder: str | Path) -> None:
    """Writes config.json and model.safetensors, which `load_pose_model` opens.

    Raises:
        UserError: the folder cannot be written.
    """
    write_folder(Stored(model.config, parameter_arrays(model)), folder)


def load_backbone_weights(model: PoseModel, source: str | Path) -> None:
    """Sets the model's backbone, in place, to that of a pretraining (MAE) file or pose weights.

    The position grid is interpolated to the model's input size.

    Raises:
        UserError: a tensor is missing or misshapen, or the source is another kind of ViT.
    """
    load_weights_into(model, source, ("backbone",))


def load_weights_into(
    model: PoseModel, source: str | Path, parts: tuple[str, ...] = ("backbone", "decoder")
) -> None:
    """Sets parts of a model ("backbone", "neck", "decoder"), in place, to those of `source`.

    What the model has beyond these parts stays as it is: a decoder trained without a neck may go
    behind a new one, but one trained behind a neck is taken with it.

    Raises:
        UserError: the model or the source has no such part, the source's is another, a decoder is
            to leave its neck behind, or a tensor is missing or misshapen.
    """
    set_parts(model, load_parts(model.config, source, parts), parts, str(source))


def load_parts(config: PoseConfig, source: str | Path, parts: tuple[str, ...]) -> Stored:
    """The weights of `source`, of which a model of that configuration can take over `parts`.

    Raises:
        UserError: as `load_weights_into`, but for tensors.
    """
    path, where = resolve_source(source), str(source)
    # A lone file does not tell its number of heads, and its arrays are the same for any.
    untold = not path.is_dir()
    stored, _ = load_stored(
        path, config.input_size, 1 if untold else None, backbone_only=tuple(parts) == ("backbone",)
    )
    _check_parts(config, stored, parts, untold, where)
    return resized(stored, config.input_size, where) if "backbone" in parts else stored


def set_parts(model: PoseModel, stored: Stored, parts: tuple[str, ...], where: str) -> None:
    """Sets parts of a model, in place; UserError where a tensor is missing or misshapen."""
    for part in parts:
        state = nnx.state(getattr(model, part), nnx.Any(nnx.Param, nnx.BatchStat))
        fill(state, stored.arrays, f"{part}.", where)
        nnx.update(getattr(model, part), state)


def _check_parts(
    model: PoseConfig, stored: Stored, parts: tuple[str, ...], untold: bool, where: str
) -> None:
    """UserError where the model cannot take these parts over, or not these alone."""
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
            f"{where}: its decoder was trained behind a neck of kind {neck.kind!r}; take that over "
            "too, in a model that has it, or the backbone alone"
        )
    if "backbone" in parts:
        free = {"input_size", "drop_path_rate", "remat"} | ({"num_heads"} if untold else set())
        _check_same_kind("backbone", stored.backbone, model.backbone, free, where)
    if "neck" in parts:
        free = {"init_std"} | ({"strides", "taps"} if untold else set())
        _check_same_kind("neck", neck, model.neck, free, where)


def _check_same_kind(
    part: str, theirs: ViTConfig | NeckConfig, ours: ViTConfig | NeckConfig, free: set, where: str
) -> None:
    """UserError that names every difference which the arrays or their meaning depend on."""
    values = {name: (value, getattr(ours, name)) for name, value in asdict(theirs).items()}
    differences = [
        f"{name} {value} (the model's: {wanted})"
        for name, (value, wanted) in values.items()
        if name not in free and value != wanted
    ]
    if differences:
        raise UserError(
            f"{where}: its {part} is another than the model's: {', '.join(differences)}; "
            "choose other weights, or the model that fits these"
        )


def load_stored(
    source: str | Path,
    input_size: tuple[int, int] | None = None,
    num_heads: int | None = None,
    dataset: str | None = None,
    backbone_only: bool = False,
) -> tuple[Stored, str]:
    """Configuration and arrays of any source at its own input size, and its name for messages."""
    path = resolve_source(source)
    if path.is_dir() and is_native(read_config(path)):
        return _with_options(read_folder(path), num_heads, dataset, str(source)), str(source)
    options = {
        "num_heads": num_heads,
        "dataset": dataset,
        "input_size": input_size,
        "backbone_only": backbone_only,
    }
    cached = _cache_folder(path, options)
    if (cached / "config.json").exists():
        try:
            return read_folder(cached), str(source)
        except UserError as error:
            log.warning("converting %s again: %s", source, error)
    stored, report = convert(path, **options)
    log.info("%s", report)
    for note in report.notes:
        log.warning("%s: %s", source, note)
    _keep(stored, cached)
    return stored, str(source)


def _with_options(stored: Stored, num_heads: int | None, dataset: str | None, where: str) -> Stored:
    if num_heads not in (None, stored.backbone.num_heads):
        raise UserError(
            f"{where}: num_heads {num_heads} was asked for, but config.json says "
            f"{stored.backbone.num_heads}"
        )
    config = stored.config
    if dataset is None or not isinstance(config, PoseConfig) or dataset == config.dataset:
        return stored
    if dataset not in EXPERT_DATASETS:
        raise UserError(f"no data set {dataset!r}: choose one of {', '.join(EXPERT_DATASETS)}")
    if config.dataset is not None:
        raise UserError(
            f"{where}: its decoder is for {config.dataset}, not {dataset}; convert the original "
            f"file again with --dataset {dataset}"
        )
    return Stored(replace(config, dataset=dataset), stored.arrays)


def backbone_only(stored: Stored) -> Stored:
    """The backbone's part."""
    arrays = {k: v for k, v in stored.arrays.items() if k.startswith("backbone.")}
    return Stored(stored.backbone, arrays)


def resized(stored: Stored, input_size: tuple[int, int] | None, where: str) -> Stored:
    """The same weights for another input size; says so when the position grid is interpolated."""
    if input_size is None or tuple(input_size) == stored.backbone.input_size:
        return stored
    backbone = replace(stored.backbone, input_size=tuple(input_size))
    old, new = stored.backbone.grid_size, backbone.grid_size
    arrays = dict(stored.arrays)
    if old != new:
        log.warning(
            "%s: position grid interpolated (bicubic) from %dx%d to %dx%d for input size %dx%d",
            where,
            *old,
            *new,
            *backbone.input_size,
        )
        arrays["backbone.pos_embed"] = resize_positions(arrays["backbone.pos_embed"], old, new)
    config = stored.config
    whole = backbone if isinstance(config, ViTConfig) else replace(config, backbone=backbone)
    return Stored(whole, arrays)


def _cache_folder(path: Path, options: dict) -> Path:
    """Where the conversion of these files, as they are now, with these options is kept."""
    files = [*weight_files(path), *([path / "config.json"] if path.is_dir() else [])]
    stamps = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = json.dumps([CACHE_FORMAT, stamps, options], default=list)
    return cache_folder("converted") / hashlib.sha256(key.encode()).hexdigest()[:20]


def _keep(stored: Stored, folder: Path) -> None:
    """Put a conversion into the cache; a failure only costs the next start."""
    try:
        (folder / "config.json").unlink(missing_ok=True)  # it cannot be read, or were not replaced
        write_folder(stored, folder)
    except (OSError, UserError) as error:
        log.warning("the converted weights could not be kept: %s", error)
