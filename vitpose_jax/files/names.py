"""Comparing file names that different people and tools spell differently."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from vitpose_jax.errors import printable

_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")
_NOT_ON_WINDOWS = re.compile(r'[:*?"<>|]')


def spelling(name: str) -> str:
    r"""Normalise a name, so that names that differ only in spelling become equal.

    `\` becomes `/`, characters that Windows forbids become `_`, and `%20` becomes a space; case,
    composed or decomposed accents and a leading `./` do not matter. Bytes that are not UTF-8, or
    are escaped as `\xe9` as in our results, are read as Latin-1.
    """
    text = _BYTE.sub(lambda match: chr(int(match[1], 16)), unquote(printable(name)))
    text = text.replace("\\", "/").removeprefix("./")
    return unicodedata.normalize("NFC", _NOT_ON_WINDOWS.sub("_", text).casefold())


def tails(path: str) -> list[str]:
    """A path and its shorter forms without leading folders, longest first."""
    parts = [part for part in path.split("/") if part]
    return ["/".join(parts[i:]) for i in range(len(parts))]


def nearest(name: str, others: Iterable[str]) -> str | None:
    """The one of `others` whose last part is most similar to that of `name`, if any is.

    Their numbers must be equal: 139.jpg cannot stand for 138.jpg, but may for 0139.jpg.
    """
    same = [other for other in others if _numbers(other) == _numbers(name)]
    by_end = {spelling(other).rpartition("/")[2]: other for other in reversed(same)}
    close = difflib.get_close_matches(spelling(name).rpartition("/")[2], by_end, n=1, cutoff=0.6)
    return by_end[close[0]] if close else None


def _numbers(name: str) -> list[str]:
    stem = re.split(r"[\\/]", name)[-1].rpartition(".")[0]
    return [digits.lstrip("0") for digits in re.findall(r"[0-9]+", stem)]


def nearest_file(path: str | Path) -> Path | None:
    """The existing file or folder that a nonexistent path most likely refers to.

    Folders may differ in spelling only (see `spelling`); the last name may differ a little more.
    """
    parts = Path(str(path).removeprefix("file://").replace("\\", "/")).parts
    found = Path(parts[0]) if parts and os.path.isabs(parts[0]) else Path()
    for index, part in enumerate(parts):
        if os.path.lexists(found / part):
            found /= part
            continue
        try:
            names = [entry.name for entry in os.scandir(found)]
        except (OSError, ValueError):
            return None
        same = next((name for name in names if spelling(name) == spelling(part)), None)
        if same is None and index == len(parts) - 1:
            same = nearest(part, names)
        if same is None:
            return None
        found /= same
    return found if parts else None
