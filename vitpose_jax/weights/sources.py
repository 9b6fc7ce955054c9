"""From what the user names (folder, file, hub id) to tensors in memory, not yet interpreted."""

import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_object

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TASK_FILE = "task.json"
"""Lies in the folder of every training run, and in no other."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors as they lie in the file, and the folder's config.json (empty for a lone file)."""

    where: str
    tensors: dict[str, np.ndarray]
    config: dict[str, Any] = field(default_factory=dict)


def is_run(source: str | Path) -> bool:
    """Whether this is the folder of a training run."""
    return (Path(source).expanduser() / TASK_FILE).exists()


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

    Raises:
        UserError: nothing there, or no network.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    looks_local = str(source).startswith((".", "/", "~")) or path.suffix in TORCH_SUFFIXES
    if looks_local or not HUB_ID.fullmatch(str(source)):
        raise UserError(f"{source}: no such file or folder (nor a hub id of the form owner/name)")
    return _download(str(source))


def _download(hub_id: str) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        safe = ["config.json", "*.safetensors", "*.safetensors.index.json"]
        folder = Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=safe))
        if not list(folder.glob("*.safetensors")):
            files = ["config.json", "pytorch_model.bin"]
            folder = Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=files))
    except (errors.RepositoryNotFoundError, errors.GatedRepoError):
        raise UserError(
            f"{hub_id}: no such folder here, and no public model of this name on the Hugging Face "
            "hub"
        ) from None
    except (OSError, ValueError, errors.HfHubHTTPError, _network_error()) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{hub_id}: no such folder here, and it could not be downloaded from the Hugging Face "
            f"hub nor found in its cache; check the network or pass a local folder ({reason})"
        ) from None
    return folder


def _network_error() -> type[Exception]:
    """What huggingface_hub's HTTP library raises without a network (httpx from 1.0 on)."""
    try:
        import httpx

        return httpx.HTTPError
    except ImportError:
        return OSError


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a PyTorch file, or a folder of config.json and weights.

    Raises:
        UserError: unreadable, truncated, refused (a pickle that would run code), or no weights.
    """
    if path.is_dir():
        return Checkpoint(str(path), _read_folder(path), read_config(path))
    if path.suffix == ".safetensors":
        raise UserError(f"{path}: name its folder instead, config.json is needed too")
    return Checkpoint(str(path), read_torch_file(path))


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder."""
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: no config.json there, so not a folder of weights")
    return read_object(folder / "config.json")


def weight_files(path: Path) -> list[Path]:
    """The files that hold a source's tensors: safetensors where there are any, else PyTorch's."""
    if not path.is_dir():
        return [path]
    index = path / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise UserError(f"{index}: not a list of safetensors files")
        files = [path / Path(name).name for name in sorted(set(map(str, weight_map.values())))]
    elif (path / "model.safetensors").exists():
        files = [path / "model.safetensors"]
    else:
        files = [path / "pytorch_model.bin"]
    for file in files:
        if not file.exists():
            raise UserError(
                f"{path}: no {file.name} there (looked for model.safetensors, pytorch_model.bin)"
            )
    return files


def _read_folder(folder: Path) -> dict[str, np.ndarray]:
    tensors = {}
    for file in weight_files(folder):
        safe = file.suffix == ".safetensors"
        tensors |= read_safetensors(file) if safe else read_torch_file(file)
    return tensors


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as safetensors ({error})") from None


def read_torch_file(file: Path) -> dict[str, np.ndarray]:
    """The state dict of a PyTorch file, float tensors as float32; no code in it is ever run.

    Takes the bare dict or what lies under `state_dict` or `model` and strips the `module.` that
    parallel training puts in front of keys.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{file}: reading PyTorch files needs torch: pip install 'vitpose-jax[torch]'"
        ) from None
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global) `?([\w.]+)", str(error))
        what = f" ({found.group(1)})" if found else ""
        raise UserError(
            f"{file}: refused, it holds more than tensors: loading it would run code{what} or it "
            "is not a PyTorch file; save its state dict alone (torch.save(model.state_dict(), ...))"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{file}: not readable as a PyTorch file ({reason})") from None

    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds a {type(content).__name__}, not a dict of tensors")
    tensors = {
        str(key).removeprefix("module."): _to_numpy(value)
        for key, value in content.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise UserError(f"{file}: no tensors in it (looked in the file, state_dict and model)")
    return tensors


def _to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _harmless_globals() -> list[Any]:
    """What training scripts leave beside the tensors: numpy scalars and argparse options."""
    import argparse

    scalar = np._core.multiarray.scalar
    number_types = [type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.bool_)]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [argparse.Namespace, np.dtype, *number_types, *((scalar, name) for name in names)]
