"""Converting PyTorch checkpoints to our arrays, with a report on every tensor and a cache."""

import hashlib
import json
import logging
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.files.cache import cache_folder
from vitpose_jax.files.digests import sha256
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
MERGED_EXPERTS = r"backbone\.blocks\.\d+\.mlp\.experts\.\d+\.(weight|bias)"
HARMLESS = (  # counters, heads for other data sets, and parts needed only in pretraining
    r".*\.num_batches_tracked",
    r"associate_keypoint_heads\..*",
    r"(backbone\.)?(cls_token|dist_token|mask_token)",
    r"(backbone\.)?(fc_norm|head|head_dist|ln2)\..*",
    r"(decoder|dino_head|ibot_head|projector|predictor)\w*(\..*)?",
    r"ema_\w+",  # mmcv's last step; its state_dict holds the averages
)


@dataclass(frozen=True)
class Report:
    """What a conversion did: our names with the keys they came from, unused keys, and notes."""

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
    """Merge names that differ only in their numbers into one line with a count."""
    counts: dict[str, int] = {}
    for name in names:
        pattern = re.sub(r"\.\d+(?=\.)", ".*", name)
        counts[pattern] = counts.get(pattern, 0) + 1
    return [f"{pattern} ({count})" if count > 1 else pattern for pattern, count in counts.items()]


def convert_cached(path: Path, hints: Hints, source: str) -> Stored:
    """As `convert`, but use the cached result if the same files were converted before.

    Logs the report, and the notes (which are cached too) as warnings that name `source`.
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
            (cached / "config.json").unlink(missing_ok=True)  # it could not be read
            write_folder(stored, cached)
        except (OSError, UserError) as error:  # only slows the next start
            log.warning("the converted weights could not be cached: %s", error)
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
    """Where the conversion of files with these contents and hints is cached."""
    files = [*weight_files(path), *([path / "config.json"] if path.is_dir() else [])]
    digests = [sha256(file) for file in files]
    key = json.dumps([CACHE_FORMAT, digests, asdict(hints)])
    return cache_folder("converted") / hashlib.sha256(key.encode()).hexdigest()[:20]


def convert(path: Path, hints: Hints) -> tuple[Stored, Report]:
    """Convert a PyTorch file or a transformers folder, or only the backbone in it.

    Returns:
        The configuration (a ViTConfig if the file holds only a backbone) with float32 arrays by
        name, and the report.

    Raises:
        UserError: the folder is already in our format, or something is missing, misshapen,
            unreadable or unknown.
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
    """Notes on unused tensors, except those known to be harmless.

    Raises:
        UserError: an unused tensor is part of the network, which must then be another network.
    """
    merged = () if found.backbone.num_experts else (MERGED_EXPERTS,)
    heads = () if found.decoder else ("(keypoint_head|head|associate_keypoint_heads)\\..*",)
    harmless = re.compile("|".join((*HARMLESS, *merged, *heads)))
    rest = [key for key in unused if not harmless.fullmatch(key)]
    for key in rest:
        if key.startswith(("backbone.", "keypoint_head.", "head.", "neck.")):
            raise UserError(
                f"{where}: tensor {key[:120]!r} belongs to nothing in ViTPose's network: the "
                "weights are of another network, or have additions (LoRA, adapters); merge those "
                "first"
            )
    if not rest:
        return []
    return [f"{len(rest)} tensors are not used and were left out: {', '.join(rest[:3])}, ..."]


def _recognise(checkpoint: Checkpoint, hints: Hints) -> Architecture:
    if hints.dataset is not None:
        expert_index(hints.dataset)  # so that an unknown name is not blamed on the file
    # timm's folders have `architecture` instead of `model_type`, and the original's tensor names.
    kinds = {"architecture", "model_type"} & checkpoint.config.keys()
    is_original = not checkpoint.config or kinds == {"architecture"}
    recognise = recognise_original if is_original else recognise_huggingface
    return _settle_dataset(recognise(checkpoint, hints), hints.dataset, checkpoint.where)


def _settle_dataset(found: Architecture, dataset: str | None, where: str) -> Architecture:
    """Check the data set against the head; for experts, infer it from the head's keypoints."""
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
