"""Resolving a source of weights (folder, file, hub id) to a local path."""

import os
import re
from pathlib import Path

from vitpose_jax.errors import UserError, first_line

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
    """The local file or folder that `source` names; hub ids are downloaded (and cached by the hub).

    A hub id is `owner/name`, or `owner/name@revision` for weights that never change.

    Raises:
        UserError: it is a training run, does not exist, or cannot be downloaded.
    """
    refuse_run(source)
    path = Path(os.path.expanduser(source))
    if os.path.exists(path):
        return path
    looks_local = str(source).startswith((".", "/", "~")) or path.suffix in WEIGHT_SUFFIXES
    hub_id = HUB_ID.fullmatch(str(source))
    if looks_local or hub_id is None:
        raise UserError(
            f"{str(source)[:200]}: no such file or folder (nor a hub id of the form owner/name or "
            "owner/name@revision)"
        )
    return _download(*hub_id.groups())


def _download(hub_id: str, revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        safe = ["config.json", "*.safetensors", "*.safetensors.index.json"]
        folder = Path(
            huggingface_hub.snapshot_download(hub_id, allow_patterns=safe, revision=revision)
        )
        if not list(folder.glob("*.safetensors")):
            files = ["config.json", "pytorch_model*.bin", "pytorch_model.bin.index.json"]
            folder = Path(
                huggingface_hub.snapshot_download(hub_id, allow_patterns=files, revision=revision)
            )
    except (errors.RepositoryNotFoundError, errors.GatedRepoError):
        raise UserError(
            f"{hub_id}: no such folder here, and no public model of this name on the Hugging Face "
            "hub"
        ) from None
    except (OSError, ValueError, errors.HfHubHTTPError, _network_error()) as error:
        raise UserError(
            f"{hub_id}: no such folder here, and it could not be downloaded from the Hugging Face "
            f"hub nor found in its cache; check the network or give a local folder "
            f"({first_line(error)})"
        ) from None
    return folder


def _network_error() -> type[Exception]:
    """What huggingface_hub's HTTP library (httpx from 1.0 on) raises without a network."""
    try:
        import httpx
    except ImportError:
        return OSError
    return httpx.HTTPError
