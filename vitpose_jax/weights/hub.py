"""Files from the Hugging Face hub: downloaded once, checked, and missed in words that help.

`huggingface_hub` does the work, keeps the files in its cache and shows its own progress bar on a
terminal. It would try for half a minute to reach a hub that is not there, so we ask first.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitpose_jax.errors import UserError, first_line
from vitpose_jax.files.digests import sha256
from vitpose_jax.weights.zoo import Published

PATIENCE = 5.0
"""Seconds to wait for the hub's first answer."""
SAFE_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
PICKLED_FILES = ("config.json", "pytorch_model*.bin", "pytorch_model.bin.index.json")


def missing_files(model: Published) -> list[str]:
    """The files of a published model that are not in the hub's cache yet."""
    folder = snapshot_folder(model)
    return [name for name in model.files if not (folder / name).exists()]


def snapshot_folder(model: Published) -> Path:
    """Where the hub's cache has, or will have, the files of a published model."""
    from huggingface_hub import constants

    repository = f"models--{model.repository.replace('/', '--')}"
    return Path(constants.HF_HUB_CACHE) / repository / "snapshots" / model.revision


def fetch(model: Published) -> Path:
    """The folder with a published model's files, downloaded if they are not there, and checked.

    Raises:
        UserError: a file is missing and cannot be downloaded (the message says how to bring it by
            hand), or has another SHA-256 than the table says.
    """
    missing = missing_files(model)
    if missing:
        _download(model, missing)
    folder = snapshot_folder(model)
    weights = folder / model.files[0]
    if model.sha256 is not None and (found := sha256(weights)) != model.sha256:
        what = "is damaged or was changed"
        if model.files[0] in missing:
            what = "was not what was expected, and is removed again"
            for path in (weights.resolve(), weights):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        raise UserError(
            f"{model.name}: {weights} {what}: its SHA-256 is {found}, not {model.sha256}; remove "
            "it if it is there, and try again"
        )
    return folder


def _download(model: Published, missing: Sequence[str]) -> None:
    """Download the missing files, if the hub can be reached and has what is expected."""
    import huggingface_hub

    repository, revision = model.repository, model.revision
    try:
        offered = _ask(repository, missing[0], revision)
        # For large files, the hub's etag is their SHA-256.
        is_digest = missing[0] == model.files[0] and len(offered.etag or "") == 64
        if is_digest and model.sha256 not in (None, offered.etag):
            raise UserError(
                f"{model.name}: the hub offers {missing[0]} with SHA-256 {offered.etag}, not "
                f"{model.sha256} as expected; it was not downloaded"
            )
        for name in missing:
            huggingface_hub.hf_hub_download(repository, name, revision=revision)
    except UserError:
        raise
    except Exception as error:  # of huggingface_hub, its HTTP library, the disk, the network
        files = " and ".join(missing)
        raise UserError(
            f"{model.name}: {files} ({model.megabytes} MB) must be downloaded once, but that "
            f"failed ({first_line(error)}). To bring them by hand: `hf download {repository} "
            f"{' '.join(missing)} --revision {revision} --local-dir FOLDER` on a machine with a "
            f"network, then copy what is in FOLDER to {snapshot_folder(model)}"
        ) from None


def fetch_any(hub_id: str, revision: str | None) -> Path:
    """The folder with the files of any model on the hub, of its newest revision if none is given.

    Without a network, those in the hub's cache are taken.

    Raises:
        UserError: there is no such model, or it cannot be downloaded and is not in the cache.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        try:
            _ask(hub_id, "config.json", revision)
            here_only, reason = False, ""
        except errors.EntryNotFoundError:
            here_only, reason = False, ""
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            raise
        except Exception as error:  # as in `_download`
            here_only, reason = True, first_line(error)
        for patterns in (SAFE_FILES, PICKLED_FILES):
            folder = huggingface_hub.snapshot_download(
                hub_id,
                allow_patterns=list(patterns),
                revision=revision,
                local_files_only=here_only,
            )
            if any(Path(folder).glob(patterns[1])):
                break
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        at = f" at revision {revision}" if revision else ""
        raise UserError(
            f"{hub_id}: no such folder here, and no public model of this name{at} on the Hugging "
            "Face hub; `vitpose models` lists some"
        ) from None
    except Exception as error:  # as in `_download`
        raise UserError(
            f"{hub_id}: no such folder here, and it could not be downloaded from the Hugging Face "
            f"hub nor found in its cache; check the network or give a local folder "
            f"({reason or first_line(error)})"
        ) from None
    return Path(folder)


def _ask(repository: str, file: str, revision: str | None) -> Any:
    """What the hub says about a file, if it answers soon; raises what huggingface_hub raises."""
    import huggingface_hub

    url = huggingface_hub.hf_hub_url(repository, file, revision=revision)
    return huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE)
