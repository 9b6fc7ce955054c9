"""Checksums of a checkpoint's files: writing and verifying them."""

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_object
from vitpose_jax.files.writing import write_json

CHECKSUM_FILE = "checksums.json"
_PARTS = ("state", "data")
_BLOCK = 1 << 20


def write_checksums(checkpoint: Path) -> None:
    """Write the length and CRC-32 of every file of a checkpoint to a file beside them.

    CRC-32 detects every flipped bit and every burst of up to 32, at the speed of a disk.
    """
    write_json(checkpoint / CHECKSUM_FILE, _checksums(checkpoint, list(_files(checkpoint))))


def damage(checkpoint: Path) -> str | None:
    """Say what is wrong with a checkpoint's files; None if they are as they were written.

    A checkpoint without checksums (from an older version) counts as sound.
    """
    file = checkpoint / CHECKSUM_FILE
    if not file.exists():
        return None
    try:
        expected = read_object(file)
        found = _checksums(checkpoint, [name for name in expected if (checkpoint / name).is_file()])
    except (UserError, OSError) as error:
        return str(error)
    wrong = [name for name, value in expected.items() if found.get(name) != value]
    if not wrong:
        return None
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{wrong[0]}{more}: {'changed' if wrong[0] in found else 'missing'} since written"


def _files(checkpoint: Path) -> Iterator[str]:
    for part in _PARTS:
        for path in sorted((checkpoint / part).rglob("*")):
            if path.is_file():
                yield path.relative_to(checkpoint).as_posix()


def _checksums(checkpoint: Path, names: list[str]) -> dict[str, list[int]]:
    with ThreadPoolExecutor(4) as pool:
        values = pool.map(lambda name: _checksum(checkpoint / name), names)
        return dict(zip(names, values, strict=True))


def _checksum(path: Path) -> list[int]:
    """Length and CRC-32."""
    length = value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            length, value = length + len(block), zlib.crc32(block, value)
    return [length, value]
