"""PyTorch checkpoints to our arrays, with an account of what became of every tensor."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.weights.fpn import neck_rows
from vitpose_jax.weights.mapping import backbone_rows, decoder_rows, from_torch
from vitpose_jax.weights.native import Stored, is_native, parameter_shapes
from vitpose_jax.weights.original import recognise
from vitpose_jax.weights.sources import read_checkpoint


@dataclass(frozen=True)
class Report:
    """What a conversion did: our names with the keys they came from, keys left over, and notes."""

    where: str
    mapped: dict[str, tuple[str, ...]]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        tensors = sum(len(keys) for keys in self.mapped.values())
        lines = [f"{self.where}: {tensors} tensors mapped to {len(self.mapped)} parameters"]
        groups = _by_pattern([name for name in self.mapped])
        lines += [f"  mapped   {group}" for group in groups] or ["  mapped   none"]
        lines += [f"  ignored  {key}" for key in _by_pattern(self.ignored)] or ["  ignored  none"]
        lines += [f"  missing  {key}" for key in self.missing] or ["  missing  none"]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _by_pattern(names: list[str] | tuple[str, ...]) -> list[str]:
    """Names that differ only in their numbers in one line, with how many they are."""
    counts: dict[str, int] = {}
    for name in names:
        pattern = re.sub(r"\.\d+(?=\.)", ".*", name)
        counts[pattern] = counts.get(pattern, 0) + 1
    return [f"{pattern} ({count})" if count > 1 else pattern for pattern, count in counts.items()]


def convert(
    path: Path,
    *,
    num_heads: int | None = None,
    dataset: str | None = None,
    input_size: tuple[int, int] | None = None,
    backbone_only: bool = False,
    fpn_strides: tuple[int, ...] | None = None,
    fpn_taps: tuple[int, ...] | None = None,
) -> tuple[Stored, Report]:
    """Converts a PyTorch file or a transformers folder, or the backbone in it alone.

    The options are those of `load_pose_model`; `fpn_strides` and `fpn_taps` are for files with a
    feature pyramid, which do not tell these (see `fpn`).

    Returns:
        The configuration (a ViTConfig where the file holds a backbone only) with float32 arrays by
        name, and the report.

    Raises:
        UserError: a folder of ours, or anything missing, misshapen, unreadable or unknown.
    """
    checkpoint = read_checkpoint(path)
    if is_native(checkpoint.config):
        raise UserError(f"{path}: was written by this package; there is nothing to convert")
    found = recognise(
        checkpoint,
        num_heads=num_heads,
        dataset=dataset,
        input_size=input_size,
        backbone_only=backbone_only,
        fpn_strides=fpn_strides,
        fpn_taps=fpn_taps,
    )
    rows = backbone_rows(found.backbone)
    if found.decoder is None:
        config = found.backbone
    else:
        config = PoseConfig(found.backbone, found.decoder, found.neck, dataset=found.dataset)
        rows += neck_rows(found.neck) + decoder_rows(found.decoder)
    arrays = from_torch(
        found.tensors, rows, found.naming, parameter_shapes(config), checkpoint.where
    )
    used = {row.ours: row.keys(found.naming) for row in rows}
    used_keys = {key for keys in used.values() for key in keys}
    report = Report(
        where=checkpoint.where,
        mapped=used,
        ignored=tuple(key for key in found.tensors if key not in used_keys),
        missing=_missing(found.decoder is None, checkpoint.tensors, found.tensors),
        notes=found.notes,
    )
    return Stored(config, arrays), report


def _missing(
    no_decoder: bool, in_file: dict[str, np.ndarray], understood: dict[str, np.ndarray]
) -> tuple[str, ...]:
    norm_made_up = "backbone.last_norm.weight" in understood and not any(
        re.fullmatch(r"(backbone\.)?(last_norm|norm|layernorm)\.weight", key) for key in in_file
    )
    missing = ("backbone.last_norm (identity)",) if norm_made_up else ()
    return missing + (("decoder (the file holds a backbone only)",) if no_decoder else ())
