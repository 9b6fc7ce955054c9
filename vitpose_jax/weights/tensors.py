"""Reading and writing tensors: safetensors, PyTorch's pickles, and folders with a config.json."""

import contextlib
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError, first_line
from vitpose_jax.files.json_file import read_object
from vitpose_jax.files.writing import make_folder, replacing
from vitpose_jax.weights.copies import choose_network

DEEPEST = 5  # levels of nested dicts that are searched
# Names of dtypes in safetensors -> in numpy.
NUMBERS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "I64": "int64"}


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a folder."""
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: no config.json there, so not a folder of weights")
    return read_object(folder / "config.json")


def weight_files(path: Path) -> list[Path]:
    """The files that hold a source's tensors: safetensors if there are any, else PyTorch's.

    Raises:
        UserError: the folder has none, or an index does not name them.
    """
    if not path.is_dir():
        return [path]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / f"{name}.index.json").exists():
            return _shards(path / f"{name}.index.json")
        if (path / name).is_file():
            return [path / name]
    raise UserError(
        f"{path}: no model.safetensors and no pytorch_model.bin there (nor an index of parts)"
    )


def _shards(index: Path) -> list[Path]:
    """The files named by the index of a model that is split into parts."""
    weight_map = read_object(index).get("weight_map")
    names = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else set()
    if not names or any(Path(name).name != name for name in names):
        raise UserError(f"{index}: 'weight_map' must name a file of this folder for each tensor")
    files = [index.parent / name for name in sorted(names)]
    if missing := [file.name for file in files if not os.path.exists(file)]:
        raise UserError(
            f"{index}: names {missing[0][:80]!r}, which does not exist; download all parts"
        )
    return files


def read_network(path: Path, ema: bool = False) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Read one network's tensors from a file or a folder; see `choose_network`.

    Returns:
        Arrays by their names within the network, and notes for the user.

    Raises:
        UserError: the file is unreadable or unsafe, holds no network or several, or has tensors of
            an unsupported kind.
    """
    read: dict[str, Any] = {}
    for file in weight_files(path):
        safe = file.suffix == ".safetensors"
        read |= read_safetensors(file) if safe else _load_torch_file(file)
    chosen, notes = choose_network(read, ema, str(path))
    arrays = {name: _to_numpy(read[key], f"{path}: {key!r}") for name, key in chosen.items()}
    return arrays, notes


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (TypeError, AttributeError, KeyError):  # numpy lacks a dtype
        return _read_narrow(file)
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{file}: not readable as safetensors ({first_line(error)})") from None


def _read_narrow(file: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file with bfloat16 tensors, which numpy alone does not support."""
    import ml_dtypes
    from safetensors import deserialize

    arrays = {}
    for name, tensor in deserialize(file.read_bytes()):
        kind = NUMBERS.get(tensor["dtype"])
        if kind is None:
            raise UserError(
                f"{file}: tensor {name!r} is of type {tensor['dtype']}; save it as float32"
            )
        dtype = ml_dtypes.bfloat16 if kind == "bfloat16" else kind
        arrays[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    return arrays


def write_weights(
    folder: str | Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, dict[str, Any]]
) -> None:
    """Write model.safetensors and JSON files, replacing old ones only once all are complete.

    Raises:
        UserError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {k: np.asarray(v, order="C") for k, v in arrays.items()}
    make_folder(folder)
    with contextlib.ExitStack() as files:  # which are renamed in reverse order
        drafts = {name: files.enter_context(replacing(Path(folder) / name)) for name in texts}
        for name, content in texts.items():
            drafts[name].write_text(json.dumps(content, indent=2) + "\n")
        draft = files.enter_context(replacing(Path(folder) / "model.safetensors"))
        try:
            save_file(contiguous, draft, metadata={"format": "pt"})  # transformers requires it
        except SafetensorError as error:  # the disk is full
            raise UserError(f"{folder}: cannot be written ({error})") from None


def _load_torch_file(file: Path) -> dict[str, Any]:
    """Load a PyTorch file's tensors without running code; keys join nested dicts by dots."""
    torch = _torch(file, "reading")
    try:
        with torch.serialization.safe_globals(_harmless_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickles and odd tensors, reported below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global) `?([\w.]+)", str(error))
        what = f" ({found.group(1)})" if found else ""
        raise UserError(
            f"{file}: refused, it holds more than tensors: loading it would run code{what} or it "
            "is not a PyTorch file; save its state dict alone (torch.save(model.state_dict(), ...))"
        ) from None
    except Exception as error:  # damaged pickles may raise anything
        raise UserError(f"{file}: not readable as a PyTorch file ({first_line(error)})") from None

    if not isinstance(content, dict):
        raise UserError(f"{file}: holds a {type(content).__name__}, not a dict of tensors")
    tensors: dict[str, Any] = {}
    waiting: list[tuple[tuple[str, ...], dict[Any, Any]]] = [((), content)]
    seen = {id(content)}  # a pickle may contain itself
    while waiting:
        place, values = waiting.pop(0)
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[".".join((*place, str(key)))] = value
            elif isinstance(value, dict) and id(value) not in seen and len(place) < DEEPEST:
                seen.add(id(value))
                waiting.append(((*place, str(key)), value))
    if not tensors:
        raise UserError(f"{file}: no tensors in it")
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
        except RuntimeError as error:  # the disk is full
            raise UserError(f"{file}: cannot be written ({error})") from None


def _torch(file: str | Path, doing: str) -> ModuleType:
    try:
        import torch
    except ImportError:
        raise UserError(
            f'{file}: {doing} PyTorch files needs torch: pip install "vitpose-jax[torch]"'
        ) from None
    return torch


def _to_numpy(tensor: Any, where: str) -> np.ndarray:
    """Convert a PyTorch tensor to an array, widening dtypes that numpy lacks; keep arrays.

    Raises:
        UserError: the tensor is not a plain array of numbers.
    """
    if isinstance(tensor, np.ndarray):
        return tensor
    tensor = tensor.detach()
    kinds = {
        "nested": tensor.is_nested,
        "sparse": str(tensor.layout) != "torch.strided",
        "quantised": tensor.is_quantized,
        "meta (without values)": tensor.is_meta,
        "complex": tensor.is_complex(),
    }
    kinds["expanded"] = not any(kinds.values()) and (
        tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
    )
    if odd := [kind for kind, holds in kinds.items() if holds]:
        raise UserError(f"{where} is a tensor of kind {odd[0]}; save it as plain float32")
    tensor = tensor.resolve_neg()
    try:
        return tensor.numpy()
    except TypeError:  # bfloat16 and narrower
        return tensor.float().numpy()


def _harmless_globals() -> list[Any]:
    """What training scripts save beside the tensors: numpy scalars and argparse options."""
    import argparse

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]  # the pickles' own name
    number_types = [type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.bool_)]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [argparse.Namespace, np.dtype, *number_types, *((scalar, name) for name in names)]
