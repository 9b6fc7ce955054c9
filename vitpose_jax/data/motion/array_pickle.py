"""Pickles of numpy arrays and plain containers, read without running anything they name.

Python's own unpickler is not used: a few bytes can make it run code, fill the memory or work for
hours. The small machine below knows the instructions that arrays and containers need.
"""

import codecs
import io
import pickletools
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.errors import UserError, first_line

MOST_BYTES = 2**30
MOST_INSTRUCTIONS = 200_000
"""A 3DPW file has some hundreds; this many take half a second."""
_SPARE_BYTES = 2**20
_TYPE_CODE = re.compile(r"[biufcSU]\d{1,4}")


def load_pickle(path: str | Path) -> Any:
    """Unpickle numpy arrays, scalars and plain containers; refuse everything else by name.

    Pickles from Python 2 are read too. Neither numpy's nor Python's unpickling code runs. The
    memory used is at most a few times the file's size, and the time grows with it.

    Raises:
        UserError: the file is unreadable, not a pickle, larger than 1 GiB, or asks for anything but
            arrays of numbers and text, and plain containers.
    """
    data = _read(Path(path))
    try:
        return _built(_Machine(data).run(), {})
    except _Refused as error:
        raise UserError(
            f"{path}: refused, because the file asks for {error}; a file of numpy arrays and plain "
            "containers does not, so this one is damaged or malicious"
        ) from None
    except (RecursionError, MemoryError):
        raise UserError(f"{path}: refused, its content is too deeply nested or too large") from None
    except Exception as error:  # a damaged pickle can raise anything at all
        raise UserError(
            f"{path}: not a readable pickle ({type(error).__name__}: {first_line(error)[:100]}); "
            "download it again"
        ) from None


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: is no file")
        if status.st_size > MOST_BYTES:
            raise UserError(f"{path}: refused, it is larger than {MOST_BYTES >> 30} GiB")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


class _Refused(Exception):
    """A pickle asked for something that it does not get."""


class _Dtype:
    """Stands in for numpy.dtype: a type code and a byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
            raise _Refused(f"an array of type {_short(code)}")
        self.dtype = np.dtype(code)

    def set_state(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for a numpy array."""

    def __init__(self, *_: Any) -> None:
        self.array = np.zeros(0, np.float32)

    def set_state(self, state: tuple[Any, ...]) -> None:
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
        raise _Refused(f"_codecs.encode with {_short(encoding)}")
    return text.encode("latin1")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.set_state((1, shape, dtype, order == "F", raw))
    return array


_STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encode,
    **{
        f"numpy.{core}.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in (
            ("multiarray._reconstruct", _Array),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}


class _Machine:
    """Runs a pickle: its instructions move values between a stack, a memo and containers."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        # What arrays may take: a text may be encoded and then copied, once.
        self._spare = 4 * len(data) + _SPARE_BYTES

    def run(self) -> Any:
        """Run to the end; return what the pickle holds."""
        for _ in range(MOST_INSTRUCTIONS):
            name, argument = self._next()
            if name == "STOP":
                return self._stack.pop()
            if name in _VALUES:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name not in _IGNORED:
                self._step(name, argument)
        raise _Refused(f"more than {MOST_INSTRUCTIONS} instructions")

    def _next(self) -> tuple[str, Any]:
        """The next instruction and its argument, which is never longer than the file."""
        code = self._file.read(1)
        instruction = _INSTRUCTIONS.get(code)
        if instruction is None:
            raise ValueError("it ends too early" if not code else "unknown instruction")
        if instruction.name == "STRING":  # Python 2's text may be any bytes
            raw = pickletools.read_stringnl(self._file, decode=False)
            return "STRING", codecs.escape_decode(raw)[0].decode("latin1")
        return instruction.name, instruction.arg and instruction.arg.reader(self._file)

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "MARK":
                self._marks.append(len(stack))
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self._since_mark())
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS":
                self._extend(self._since_mark())
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self._since_mark()
                stack.append({})
                self._update(items)
            case "SETITEM":
                self._update(self._pop(2))
            case "SETITEMS":
                self._update(self._since_mark())
            case "GLOBAL":
                self._find(argument.replace(" ", ".", 1))
            case "STACK_GLOBAL":
                self._find(".".join(self._pop(2)))
            case "REDUCE":
                function, arguments = self._pop(2)
                if not any(function is stand_in for stand_in in _STAND_INS.values()):
                    raise _Refused(f"a call of a {type(function).__name__}")
                stack.append(self._paid(function(*arguments)))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], _Array | _Dtype):
                    raise _Refused(f"the inside of a {type(stack[-1]).__name__}")
                stack[-1].set_state(state)
                self._paid(stack[-1])
            case "PERSID" | "BINPERSID":
                raise _Refused("a persistent object")
            case _:
                raise _Refused(f"the instruction {name}")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("an instruction lacks its values")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise _Refused(f"items of a {type(self._stack[-1]).__name__}")
        self._stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise _Refused(f"entries of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys can take very long to hash or compare.
            if not isinstance(key, str | bytes) and not (type(key) is int and abs(key) < 2**31):
                raise _Refused(f"a {type(key).__name__} as a key")
            target[key] = value

    def _find(self, name: str) -> None:
        if name not in _STAND_INS:
            raise _Refused(name[:60])
        self._stack.append(_STAND_INS[name])

    def _paid(self, value: Any) -> Any:
        """The value, if what has been made so far is no more than a file of this size explains."""
        array = value.array if isinstance(value, _Array) else value
        size = array.nbytes if isinstance(array, np.ndarray) else 0
        self._spare -= len(array) if isinstance(array, bytes) else size
        if self._spare < 0:
            raise _Refused("several times as much memory as its own size")
        return value


_IGNORED = {"PROTO", "FRAME"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = set(
    """INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
    BYTEARRAY8""".split()  # noqa: SIM905 (a list would take 20 lines)
)
_INSTRUCTIONS = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}


def _short(value: Any) -> str:
    """A value in an error: text is cut, and of all else only the type is named."""
    return repr(value[:20]) if isinstance(value, str) else f"a {type(value).__name__}"


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
