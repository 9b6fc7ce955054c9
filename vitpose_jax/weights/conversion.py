"""PyTorch checkpoints to our arrays, once: what became of every tensor, and a cache of results."""

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.files.cache import cache_folder
from vitpose_jax.files.writing import make_folder, replacing
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
from vitpose_jax.weights.tensors import read_config, weight_files

log = logging.getLogger("vitpose_jax")

CACHE_FORMAT = 4  # raise it when the conversion or the folder's layout changes
CLOCK_GRAIN = 2.0  # seconds, the coarsest of file systems' clocks
MERGED_EXPERTS = r"backbone\.blocks\.\d+\.mlp\.experts\.\d+\.(weight|bias)"
HARMLESS = (  # counters, other data sets' heads, and what pretraining needs beside the backbone
    r".*\.num_batches_tracked",
    r"associate_keypoint_heads\..*",
    r"(backbone\.)?(cls_token|dist_token|mask_token)",
    r"(backbone\.)?(fc_norm|head|head_dist|ln2)\..*",
    r"(decoder|dino_head|ibot_head|projector|predictor)\w*(\..*)?",
    r"ema_\w+",  # mmcv's, of the last step: its state_dict holds the averages
)


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
    """As `convert`, reading the user's cache instead where such files were converted before.

    Logs the report, and the notes, which the cache keeps, as warnings that name `source`.
    """
    cached = _cached_folder(path, hints)
    stored = _read_cached(cached, source)
    is_new = stored is None
    if stored is None:
        stored, report = convert(path, hints)
        log.info("%s", report)
    for note in stored.notes:
        log.warning("%s: %s", source, note)
    if is_new:
        try:
            (cached / "config.json").unlink(missing_ok=True)  # unreadable, or it had been returned
            write_folder(stored, cached)
        except (OSError, UserError) as error:  # which only costs the next start
            log.warning("the converted weights could not be kept: %s", error)
    return stored


def _read_cached(folder: Path, source: str) -> Stored | None:
    if not (folder / "config.json").exists():
        return None
    try:
        return read_folder(folder)
    except UserError as error:
        log.warning("converting %s again: %s", source, error)
        return None


def _cached_folder(path: Path, hints: Hints) -> Path:
    """Where the conversion of files with these contents, with these hints, is kept."""
    files = [*weight_files(path), *([path / "config.json"] if path.is_dir() else [])]
    digests = [_digest(file) for file in files]
    key = json.dumps([CACHE_FORMAT, digests, asdict(hints)])
    return cache_folder("converted") / hashlib.sha256(key.encode()).hexdigest()[:20]


def _digest(file: Path) -> str:
    """SHA-256 of a file's bytes, remembered for as long as the file stays as it is.

    Reading a large file costs about as long as loading its weights, so the digest is kept under the
    file's place, size and times. Among these is the time of its last change (ctime), which no
    program can set: another file put in its place, with the size and the date of the old one, has
    another. A file changed within the clock's grain of being read is not remembered.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        status = file.stat()
        stamp = [str(file.resolve()), status.st_ino, status.st_size, status.st_mtime_ns]
        key = hashlib.sha256(json.dumps([*stamp, status.st_ctime_ns]).encode()).hexdigest()[:20]
        kept = cache_folder("digests") / key
        is_settled = os.name != "nt" and time.time() - status.st_ctime > CLOCK_GRAIN
        if is_settled and kept.exists():
            return kept.read_text()
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    if is_settled:
        with contextlib.suppress(OSError, UserError):  # which only costs the next start
            make_folder(kept.parent)
            with replacing(kept) as draft:
                draft.write_text(digest)
    return digest


def convert(path: Path, hints: Hints) -> tuple[Stored, Report]:
    """Convert a PyTorch file or a transformers folder, or the backbone in it alone.

    Returns:
        The configuration (a ViTConfig where the file holds a backbone only) with float32 arrays by
        name, and the report.

    Raises:
        UserError: a folder of ours, or anything missing, misshapen, unreadable or unknown.
    """
    if path.is_dir() and is_native(read_config(path)):
        raise UserError(f"{path}: was written by this package; there is nothing to convert")
    checkpoint = read_checkpoint(path, hints.ema)
    found = _recognise(checkpoint, hints)
    config = (
        PoseConfig(
            found.backbone, found.decoder, found.neck, found.dataset, skeleton=found.skeleton
        )
        if found.decoder
        else found.backbone
    )
    rows = table_rows(config)
    used = {key for row in rows for key in row.keys(found.naming)}
    unused = tuple(key for key in found.tensors if key not in used)
    notes = (*checkpoint.notes, *found.notes, *_unused_notes(unused, found, checkpoint.where))
    arrays = from_torch(
        found.tensors, rows, found.naming, parameter_shapes(config), checkpoint.where
    )
    report = Report(
        where=checkpoint.where,
        mapped={row.ours: row.keys(found.naming) for row in rows},
        ignored=unused,
        missing=_missing(checkpoint, found),
        notes=notes,
    )
    return Stored(config, arrays, notes), report


def _unused_notes(unused: Collection[str], found: Architecture, where: str) -> list[str]:
    """Tell of tensors without a use here, but those known to change nothing.

    Raises:
        UserError: one within the network, where it can only mean that the network is another.
    """
    merged = () if found.backbone.num_experts else (MERGED_EXPERTS,)
    heads = () if found.decoder else ("(keypoint_head|head|associate_keypoint_heads)\\..*",)
    harmless = re.compile("|".join((*HARMLESS, *merged, *heads)))
    rest = [key for key in unused if not harmless.fullmatch(key)]
    for key in rest:
        if key.startswith(("backbone.", "keypoint_head.", "head.", "neck.")):
            raise UserError(
                f"{where}: tensor {key[:120]!r} belongs to nothing in ViTPose's network: the "
                "weights are of another one, or have additions (LoRA, adapters) to be merged first"
            )
    if not rest:
        return []
    return [f"{len(rest)} tensors have no use here and were left out: {', '.join(rest[:3])}, ..."]


def _recognise(checkpoint: Checkpoint, hints: Hints) -> Architecture:
    if hints.dataset is not None:
        expert_index(hints.dataset)  # before the file is blamed for it
    # timm's folders name an architecture instead of a model_type, and have the original's names.
    kinds = {"architecture", "model_type"} & checkpoint.config.keys()
    is_original = not checkpoint.config or kinds == {"architecture"}
    recognise = recognise_original if is_original else recognise_huggingface
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
