"""Expanding the user's inputs (files, folders, globs, videos and cameras) to a flat list."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from vitpose_jax.errors import UserError
from vitpose_jax.files.formats import (
    HEIC_SUFFIXES,
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    RAW_SUFFIXES,
    kind_of,
    reads_heic,
)
from vitpose_jax.files.names import nearest_file

STREAM_PREFIXES = ("rtsp://", "http://", "https://")
_USUAL = ".jpg, .png, .webp, .tif, .mp4, .mov, .mkv, .avi"

SourceKind = Literal["image", "video", "camera"]


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to predict on.

    Attributes:
        kind: what it is.
        location: path of a file, number of a camera, or address of a stream.
        name: its unique name in results: the file name, or the path below the folder where it was
            found.
    """

    kind: SourceKind
    location: str
    name: str

    @property
    def image_id(self) -> int | None:
        """A picture's COCO id: its file name without the suffix, if that is a number."""
        stem = Path(self.name).stem
        return int(stem) if self.kind == "image" and stem.isascii() and stem.isdigit() else None


class Inputs(list[Source]):
    """Sources, and `problems`: what was left out of folders, one line each."""

    def __init__(self, sources: Iterable[Source], problems: Sequence[str]) -> None:
        super().__init__(sources)
        self.problems = tuple(problems)


def expand_inputs(inputs: Sequence[str]) -> Inputs:
    """Turn the command's arguments into sources with unique names; folders and globs are sorted.

    Links count as separate files. A file's type is decided by its content, or by its suffix if the
    content is not recognised. A folder stands for the pictures and videos directly inside it
    (`FOLDER/**/*.jpg` goes deeper); a bare number that is not a file is a camera.

    Raises:
        UserError: an argument that matches nothing.
    """
    found: dict[str, Source] = {}
    problems: dict[str, None] = {}
    for argument in inputs:
        for source in _expand(argument, problems):
            found.setdefault(_without_dots(source.location), source)
    return Inputs(_with_unique_names(list(found.values())), tuple(problems))


def _expand(argument: str, problems: dict[str, None]) -> list[Source]:
    path = Path(argument)
    # os.path's tests return False for strings that cannot be a path; pathlib's raise.
    if os.path.isdir(path):
        return _folder_sources(path, problems)
    if os.path.isfile(path):
        return [_file(path, path.name)]
    if argument.isascii() and argument.isdigit():
        return [Source("camera", argument, f"camera{argument}")]
    if argument.startswith(STREAM_PREFIXES):
        if PurePosixPath(urlsplit(argument).path).suffix.lower() in IMAGE_SUFFIXES:
            raise UserError(f"{argument}: is a picture on the web; download it first")
        return [Source("camera", argument, "stream")]
    if glob.has_magic(argument):
        files = sorted({p for p in map(Path, _matches(argument)) if _is_file(p)})
        if not files:
            raise UserError(f"{argument}: no file matches this pattern")
        base = os.path.commonpath([p.parent for p in files])
        return [_file(p, os.path.relpath(p, base or ".")) for p in files]
    if os.path.islink(path):
        raise UserError(f"{argument}: is a link to {os.readlink(path)}, which does not exist")
    close = nearest_file(argument)
    hint = "" if close is None else f"; is it {close}?"
    raise UserError(f"{argument}: no such file, folder or camera{hint}")


def _without_dots(location: str) -> str:
    """Normalise a path without resolving links; `..` is kept if it follows a link."""
    plain = os.path.abspath(location)
    try:
        return plain if os.path.samefile(plain, location) else location
    except (OSError, ValueError):  # a camera
        return location


def _matches(pattern: str) -> Iterator[str]:
    """The paths that match; unlike in `glob.glob`, `**` enters no folder twice through links."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    at = parts.index("**")
    rest = parts[at + 1 :] or ("*",)
    for top in glob.iglob(os.path.join(*parts[:at])) if at else ["."]:
        for folder in _folders_below(top):
            yield from _matches(os.path.normpath(os.path.join(glob.escape(folder), *rest)))


def _folders_below(top: str) -> Iterator[str]:
    """A folder and its subfolders, in order, without hidden ones, each real folder once."""
    seen: set[str] = set()
    for folder, inner, _ in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield folder


def _folder_sources(folder: Path, problems: dict[str, None]) -> list[Source]:
    """The folder's pictures and videos, without hidden files such as macOS's ._1.jpg.

    Files in unsupported formats are listed in `problems`.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from None
    found, left_out = list[Source](), Counter[str]()
    for path in paths:
        suffix = path.suffix.lower()
        if path.name.startswith(".") or not _is_file(path):
            continue
        kind = kind_of(path)
        if suffix in HEIC_SUFFIXES and kind == "image" and not reads_heic():
            kind = None
        if kind is not None:
            found.append(Source(kind, str(path), path.name))
        elif suffix in HEIC_SUFFIXES | RAW_SUFFIXES | OTHER_SUFFIXES:
            left_out[suffix] += 1
    if not found:
        reason = _left_out(left_out) if left_out else f"looked for {_USUAL} and many others"
        raise UserError(f"{folder}: no picture or video in this folder ({reason})")
    if left_out:
        problems[f"{folder}: {_left_out(left_out)}"] = None
    return found


def _left_out(count: Counter[str]) -> str:
    """Which formats were left out, how often, and what to do."""
    kinds = ", ".join(f"{number} {suffix}" for suffix, number in sorted(count.items()))
    needs_extra = HEIC_SUFFIXES & count.keys()
    remedies = ['for HEIC: pip install "vitpose-jax[heic]"'] if needs_extra else []
    remedies += ["convert to JPEG, PNG or MP4"] if count.keys() - HEIC_SUFFIXES else []
    return f"files in unsupported formats were left out: {kinds}; {'; '.join(remedies)}"


def _is_file(path: Path) -> bool:
    """Whether it is a file or a broken link (which is reported when it is read)."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _file(path: Path, name: str) -> Source:
    return Source(kind_of(path) or "image", str(path), Path(name).as_posix())


def _with_unique_names(sources: list[Source]) -> list[Source]:
    """Rename files that share a name to their paths below the folder that holds all files.

    If such a path is already another file's name, that file is renamed in the same way.
    """
    files = [os.path.abspath(s.location) for s in sources if s.kind != "camera"]
    base = os.path.commonpath(map(os.path.dirname, files)) if files else ""
    named = list(sources)
    while True:
        counts = Counter(source.name for source in named)
        before, named = named, [s if counts[s.name] == 1 else _in_full(s, base) for s in named]
        if named == before:
            return named


def _in_full(source: Source, base: str) -> Source:
    if source.kind == "camera":
        return replace(source, name=source.location)
    return replace(source, name=Path(os.path.relpath(source.location, base)).as_posix())
