"""PyTorch checkpoints to our arrays, once: what became of every tensor, and a cache of results."""

import hashlib
import json
import logging
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.files.cache import cache_folder
from vitpose_jax.keypoints.skeletons import SKELETONS, expert_index
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.weights.checkpoint import Architecture, Checkpoint, Hints, read_checkpoint
from vitpose_jax.weights.huggingface import recognise_huggingface
from vitpose_jax.weights.mapping import from_torch, table_rows
from vitpose_jax.weights.native import (
    Stored,
    is_native,
    parameter_shapes,
    read_folder,
    write_folder,
)
from vitpose_jax.weights.original import recognise_original
from vitpose_jax.weights.tensors import weight_files

log = logging.getLogger("vitpose_jax")

CACHE_FORMAT = 3  # raise it when the conversion or the folder's layout changes


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
        for title, names in (
            ("mapped", _by_pattern(self.mapped)),
            ("ignored", _by_pattern(self.ignored)),
            ("missing", self.missing),
        ):
            lines += [f"  {title:<8} {name}" for name in names or ("none",)]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _by_pattern(names: Collection[str]) -> list[str]:
    """Names that differ only in their numbers in one line, with how many they are."""
    counts: dict[str, int] = {}
    for name in names:
        pattern = re.sub(r"\.\d+(?=\.)", ".*", name)
        counts[pattern] = counts.get(pattern, 0) + 1
    return [f"{pattern} ({count})" if count > 1 else pattern for pattern, count in counts.items()]


def convert_cached(path: Path, hints: Hints, source: str) -> Stored:
    """As `convert`, reading the user's cache instead where these files were converted before.

    Logs the report, and the notes as warnings that name `source`.
    """
    cached = _cached_folder(path, hints)
    if (cached / "config.json").exists():
        try:
            return read_folder(cached)
        except UserError as error:
            log.warning("converting %s again: %s", source, error)
    stored, report = convert(path, hints)
    log.info("%s", report)
    for note in report.notes:
        log.warning("%s: %s", source, note)
    try:
        (cached / "config.json").unlink(missing_ok=True)  # unreadable, or it had been returned
        write_folder(stored, cached)
    except (OSError, UserError) as error:  # which only costs the next start
        log.warning("the converted weights could not be kept: %s", error)
    return stored


def _cached_folder(path: Path, hints: Hints) -> Path:
    """Where the conversion of these files, as they are now, with these hints is kept."""
    files = [*weight_files(path), *([path / "config.json"] if path.is_dir() else [])]
    stamps = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = json.dumps([CACHE_FORMAT, stamps, asdict(hints)])
    return cache_folder("converted") / hashlib.sha256(key.encode()).hexdigest()[:20]


def convert(path: Path, hints: Hints) -> tuple[Stored, Report]:
    """Convert a PyTorch file or a transformers folder, or the backbone in it alone.

    Returns:
        The configuration (a ViTConfig where the file holds a backbone only) with float32 arrays by
        name, and the report.

    Raises:
        UserError: a folder of ours, or anything missing, misshapen, unreadable or unknown.
    """
    checkpoint = read_checkpoint(path)
    if is_native(checkpoint.config):
        raise UserError(f"{path}: was written by this package; there is nothing to convert")
    found = _recognise(checkpoint, hints)
    config = (
        PoseConfig(found.backbone, found.decoder, found.neck, dataset=found.dataset)
        if found.decoder
        else found.backbone
    )
    rows = table_rows(config)
    arrays = from_torch(
        found.tensors, rows, found.naming, parameter_shapes(config), checkpoint.where
    )
    mapped = {row.ours: row.keys(found.naming) for row in rows}
    used_keys = {key for keys in mapped.values() for key in keys}
    report = Report(
        where=checkpoint.where,
        mapped=mapped,
        ignored=tuple(key for key in found.tensors if key not in used_keys),
        missing=_missing(checkpoint, found),
        notes=found.notes,
    )
    return Stored(config, arrays), report


def _recognise(checkpoint: Checkpoint, hints: Hints) -> Architecture:
    if hints.dataset is not None:
        expert_index(hints.dataset)  # before the file is blamed for it
    recognise = recognise_huggingface if checkpoint.config else recognise_original
    return _settle_dataset(recognise(checkpoint, hints), hints.dataset, checkpoint.where)


def _settle_dataset(found: Architecture, dataset: str | None, where: str) -> Architecture:
    """Check the data set against the head; for experts, find it by the head's keypoints."""
    if found.decoder is None:
        if dataset is not None:
            raise UserError(
                f"{where}: holds a backbone only, without a head for {dataset}; give the file that "
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
        fitting = [name for name, s in SKELETONS.items() if s.num_keypoints == count]
        if fitting:
            dataset = fitting[0]
            notes += (f"mixture of experts: took the head and expert of {dataset} by default",)
    return replace(found, dataset=dataset, notes=notes)


def _missing(checkpoint: Checkpoint, found: Architecture) -> tuple[str, ...]:
    norm_made_up = "backbone.last_norm.weight" in found.tensors and not any(
        re.fullmatch(r"(backbone\.)?(last_norm|norm|layernorm)\.weight", key)
        for key in checkpoint.tensors
    )
    missing = ("backbone.last_norm (identity)",) if norm_made_up else ()
    return missing + (("decoder (the file holds a backbone only)",) if not found.decoder else ())
