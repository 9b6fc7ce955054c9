"""Pickles of numpy arrays and plain containers, read without running anything they name."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError


def load_pickle(path: str | Path) -> Any:
    """Unpickle numpy arrays, scalars and plain containers; refuse everything else by name.

    Pickles from Python 2 are read too. numpy's own unpickling code never runs.

    Raises:
        UserError: the file is unreadable, not a pickle, or names anything but numpy's own array
            functions.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        unpickler = _ArrayUnpickler(io.BytesIO(data), encoding="latin1")
        return _built(unpickler.load(), {})
    except _Refused as error:
        raise UserError(
            f"{path}: refused, because the file asks for {error}; a file of numpy arrays and plain "
            "containers does not, so this one is damaged or malicious"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise UserError(
            f"{path}: refused, its content is too deeply nested or too large"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything at all
        raise UserError(
            f"{path}: not a readable pickle ({type(error).__name__}: {error}); download it again"
        ) from error


class _Refused(Exception):
    """A pickle asked for something that it does not get."""


class _Dtype:
    """Stands in for numpy.dtype: a type code and a byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or code[:1] not in "biufcSU":
            raise _Refused(f"an array of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for a numpy array."""

    def __init__(self, *_: Any) -> None:
        self.array = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, str | bytes | bytearray):
            raise _Refused("an array of Python objects")
        raw = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        flat = np.frombuffer(raw, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C").copy()


def _scalar(dtype: _Dtype, raw: str | bytes) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, str | bytes):
        raise _Refused("a scalar that is a Python object")
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype.dtype)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode with {encoding!r}")
    return text.encode("latin1")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise _Refused(f"{module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the persistent object {pid!r}")


def _built(value: Any, memo: dict[int, Any]) -> Any:
    """Replace the stand-ins in `value` with what they stand for."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Dtype):
        return value.dtype
    if not isinstance(value, list | tuple | dict):
        if isinstance(value, type) or callable(value):
            raise _Refused(f"{getattr(value, '__name__', value)} itself as a value")
        return value
    if id(value) not in memo:
        if isinstance(value, dict):
            memo[id(value)] = {k: _built(v, memo) for k, v in value.items()}
        else:
            memo[id(value)] = type(value)([_built(v, memo) for v in value])
    return memo[id(value)]
