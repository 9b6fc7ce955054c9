"""Ways to damage a file, drawn at random: its bytes, its JSON, its archive."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

CUT, WRONG_TYPE = "cut", "wrong type"
"""Damage that a reader can notice; of other damage this depends on the format's checksums."""

Damage = tuple[str, bytes]
"""What was done, in a word or two, and the damaged bytes."""

_WRONG: tuple[Any, ...] = (None, [], {}, "x", True, "\x1b[31m", [[]], {"a": {}}, "9" * 400)
_ODD: tuple[Any, ...] = (-1, 0, 1e308, -1e308, float("nan"), float("inf"), 2**63, 2**31, 10**400)


def damage_bytes(rng: np.random.Generator, data: bytes) -> Damage:
    """Change, cut, remove or repeat bytes anywhere."""
    if len(data) < 2:
        return "noise", rng.bytes(20)
    start = int(rng.integers(len(data)))
    end = min(len(data), start + int(rng.geometric(0.05)))
    changed = bytearray(data)
    match rng.integers(8):
        case 0:
            return CUT, data[:start]
        case 1:
            for at in rng.integers(len(data), size=rng.integers(1, 9)):
                changed[at] ^= 1 << int(rng.integers(8))
            return "bits", bytes(changed)
        case 2:
            changed[start:end] = rng.bytes(end - start)
            return "noise", bytes(changed)
        case 3:
            del changed[start:end]
            return "removed", bytes(changed)
        case 4:
            changed[start:start] = data[start:end]
            return "repeated", bytes(changed)
        case 5:
            changed[start:end] = bytes(end - start)
            return "zeros", bytes(changed)
        case 6:
            number = rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1])
            changed[start : start + 4] = struct.pack(rng.choice(["<I", ">I"]), number)
            return "number", bytes(changed)
        case _:
            return "more", data + rng.bytes(int(rng.integers(1, 4096)))


def damage_json(rng: np.random.Generator, data: bytes) -> Damage:
    """Replace, remove or repeat a value somewhere in a JSON document, or damage its bytes."""
    try:
        content = json.loads(data)
    except ValueError:
        return damage_bytes(rng, data)
    places = list(_places(content))
    if not places or rng.random() < 0.3:
        return damage_bytes(rng, data)
    holder, key = places[rng.integers(len(places))]
    what = _change(rng, holder, key)
    text = json.dumps(content)
    if rng.random() < 0.03:
        what, text = "depth", text.replace("null", "[" * 100_000, 1)
    return what, text.encode("utf-8", "surrogatepass")


def _change(rng: np.random.Generator, holder: Any, key: Any) -> str:
    match rng.integers(4):
        case 0:
            wrong = [v for v in _WRONG if not isinstance(v, type(holder[key]))]
            holder[key] = wrong[rng.integers(len(wrong))]
            return WRONG_TYPE
        case 1:
            holder[key] = _ODD[rng.integers(len(_ODD))]
            return "odd number"
        case 2:
            del holder[key]
            return "removed"
        case _:
            if isinstance(holder, list):
                holder.insert(key, holder[key])
            else:
                holder[f"{key}\u202e"] = holder.pop(key)
            return "repeated or renamed"


def _places(value: Any) -> Any:
    """Every (container, key or index) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items) if isinstance(value, dict | list) else ():
        yield value, key
        yield from _places(inner) if isinstance(inner, dict | list) else ()


def damage_lines(rng: np.random.Generator, data: bytes) -> Damage:
    """Damage one line of JSON Lines, or the whole."""
    lines = data.splitlines(keepends=True)
    if not lines or rng.random() < 0.4:
        return damage_bytes(rng, data)
    at = rng.integers(len(lines))
    what, lines[at] = damage_json(rng, lines[at])
    return "cut line" if what == CUT else what, b"".join(lines)


def damage_archive(rng: np.random.Generator, data: bytes) -> Damage:
    """Damage a file inside a zip archive, whose checksums are right, or the archive."""
    if rng.random() < 0.4:
        return damage_bytes(rng, data)
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(written, "w") as after:
        names = before.namelist()
        chosen = names[rng.integers(len(names))]
        for name in names:
            content = before.read(name)
            content = damage_bytes(rng, content)[1] if name == chosen else content
            after.writestr(name, content)
    return "inside", written.getvalue()


def damage_safetensors(rng: np.random.Generator, data: bytes) -> Damage:
    """Damage the header, whose length is right, or the file."""
    if rng.random() < 0.4:
        return damage_bytes(rng, data)
    length = int.from_bytes(data[:8], "little")
    what, header = damage_json(rng, data[8 : 8 + length])
    return f"header {what}", len(header).to_bytes(8, "little") + header + data[8 + length :]


def damage_of(name: str) -> Callable[[np.random.Generator, bytes], Damage]:
    """The fitting kind of damage for a file of this name."""
    suffix = name.rpartition(".")[2]
    by_suffix = {"json": damage_json, "jsonl": damage_lines, "journal": damage_lines}
    by_suffix |= {"pth": damage_archive, "safetensors": damage_safetensors}
    return by_suffix.get(suffix, damage_bytes)
