"""Tensors in files: safetensors, PyTorch's pickles, and folders of either beside a config.json."""

import contextlib
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError, first_line
from vitpose_jax.files.json_file import read_object
from vitpose_jax.files.writing import make_folder, replacing


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a folder."""
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


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a folder."""
    tensors: dict[str, np.ndarray] = {}
    for file in weight_files(folder):
        safe = file.suffix == ".safetensors"
        tensors |= read_safetensors(file) if safe else read_torch_file(file)
    return tensors


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as safetensors ({error})") from None


def write_weights(
    folder: str | Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, dict[str, Any]]
) -> None:
    """Write model.safetensors and JSON files aside, and put them in place once all are whole.

    Raises:
        UserError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {k: np.asarray(v, order="C") for k, v in arrays.items()}
    make_folder(folder)
    with contextlib.ExitStack() as files:  # which get their names in the reverse order
        drafts = {name: files.enter_context(replacing(Path(folder) / name)) for name in texts}
        for name, content in texts.items():
            drafts[name].write_text(json.dumps(content, indent=2) + "\n")
        draft = files.enter_context(replacing(Path(folder) / "model.safetensors"))
        try:
            save_file(contiguous, draft, metadata={"format": "pt"})  # transformers insists on it
        except SafetensorError as error:  # where the disk is full
            raise UserError(f"{folder}: cannot be written ({error})") from None


def read_torch_file(file: Path) -> dict[str, np.ndarray]:
    """Read the state dict of a PyTorch file, float tensors as float32, without running its code.

    The dict may lie under `state_dict` or `model`; the `module.` that parallel training puts in
    front of keys is stripped.
    """
    torch = _torch(file, "reading")
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
        raise UserError(f"{file}: not readable as a PyTorch file ({first_line(error)})") from None

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


def write_torch_file(file: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a PyTorch file that holds a state dict under `state_dict`.

    Raises:
        UserError: torch is not installed, or the file cannot be written.
    """
    torch = _torch(file, "writing")
    state = {key: torch.from_numpy(tensor) for key, tensor in tensors.items()}
    make_folder(Path(file).parent)
    with replacing(file) as draft:
        try:
            torch.save({"state_dict": state}, draft)
        except RuntimeError as error:  # where the disk is full
            raise UserError(f"{file}: cannot be written ({error})") from None


def _torch(file: str | Path, doing: str) -> ModuleType:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{file}: {doing} PyTorch files needs torch: pip install 'vitpose-jax[torch]'"
        ) from None
    return torch


def _to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _harmless_globals() -> list[Any]:
    """What training scripts leave beside the tensors: numpy scalars and argparse options."""
    import argparse

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]  # the pickles' own name
    number_types = [type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.bool_)]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [argparse.Namespace, np.dtype, *number_types, *((scalar, name) for name in names)]
