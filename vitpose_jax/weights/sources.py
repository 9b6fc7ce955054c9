"""Resolving a source of weights (folder, file, published name, hub id) to a local path."""

import os
import re
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.files.names import nearest, nearest_file
from vitpose_jax.weights.hub import fetch, fetch_any
from vitpose_jax.weights.zoo import POSE_MODELS, published_pose_model

WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".safetensors")
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")
TASK_FILE = "task.json"
"""A file in the folder of every training run, and in no other folder."""


def is_run(source: str | Path) -> bool:
    """Whether this is the folder of a training run."""
    return os.path.exists(os.path.expanduser(Path(source) / TASK_FILE))


def refuse_run(source: str | Path) -> None:
    """Refuse a training run where weights are expected: it holds only checkpoints.

    Raises:
        UserError: `source` is the folder of a training run.
    """
    if is_run(source):
        raise UserError(
            f"{source} is a training run, not weights: run `vitpose export {source} --out FOLDER` "
            "and give FOLDER instead"
        )


def resolve_source(source: str | Path) -> Path:
    """The local file or folder that `source` names, downloaded if it is on the hub (and cached).

    What exists here comes first; then the names of published models (`base-simple`, see
    `weights.zoo`); then hub ids, `owner/name` or `owner/name@revision`.

    Raises:
        UserError: it is a training run, does not exist, or cannot be downloaded.
    """
    refuse_run(source)
    path, text = Path(os.path.expanduser(source)), str(source)
    if os.path.exists(path):
        return path
    if published := published_pose_model(text):
        return fetch(published)
    looks_local = text.startswith((".", "/", "~")) or path.suffix in WEIGHT_SUFFIXES
    hub_id = HUB_ID.fullmatch(text)
    if looks_local or hub_id is None:
        raise UserError(
            f"{text[:200]}: no such file or folder{_similar(path, text)}, nor the name of a "
            "published model (`vitpose models` lists them) or a hub id of the form owner/name or "
            "owner/name@revision"
        )
    return fetch_any(*hub_id.groups())


def _similar(path: Path, text: str) -> str:
    """A hint at a file or a published model of a similar name, if there is one."""
    name = published_pose_model(path.stem)
    found = nearest_file(path) or (name and name.name) or nearest(text, POSE_MODELS)
    return f" (did you mean {found}?)" if found else ""
