"""What the user pointed at: files, folders, globs, videos and cameras, as a flat list."""

import glob
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts"}
)
STREAM_PREFIXES = ("rtsp://", "http://", "https://")

SourceKind = Literal["image", "video", "camera"]


@dataclass(frozen=True)
class Source:
    """One thing to predict on.

    Attributes:
        kind: what it is.
        location: path of a file, number of a camera, or address of a stream.
        name: what results call it: the file name, or the path below the folder it was found in;
            different for every source.
    """

    kind: SourceKind
    location: str
    name: str

    @property
    def image_id(self) -> int | None:
        """COCO's convention: the number that is the file's name; None where it is none."""
        stem = Path(self.name).stem
        return int(stem) if self.kind == "image" and stem.isascii() and stem.isdigit() else None


def expand_inputs(inputs: list[str]) -> list[Source]:
    """Turn the command's arguments into sources, each file once, folders and globs sorted.

    A folder gives the pictures and videos directly inside it (`FOLDER/**/*.jpg` goes deeper); a
    bare number that is no file is a camera.

    Raises:
        UserError: an argument that matches nothing.
    """
    found: dict[str, Source] = {}
    for argument in inputs:
        for source in _expand(argument):
            found.setdefault(os.path.realpath(source.location), source)
    return _with_unique_names(list(found.values()))


def _expand(argument: str) -> list[Source]:
    path = Path(argument)
    # os.path's tests, other than pathlib's, take what no path can be for what is not there.
    if os.path.isdir(path):
        return [_file(p, p.name) for p in _files_in(path)]
    if os.path.isfile(path):
        return [_file(path, path.name)]
    if argument.isascii() and argument.isdigit():
        return [Source("camera", argument, f"camera{argument}")]
    if argument.startswith(STREAM_PREFIXES):
        return [Source("camera", argument, "stream")]
    if glob.has_magic(argument):
        files = sorted(p for p in map(Path, glob.glob(argument, recursive=True)) if p.is_file())
        if not files:
            raise UserError(f"{argument}: no file matches this pattern")
        base = os.path.commonpath([p.parent for p in files])
        return [_file(p, os.path.relpath(p, base or ".")) for p in files]
    raise UserError(f"{argument}: no such file, folder or camera")


def _files_in(folder: Path) -> list[Path]:
    """Its pictures and videos; not hidden files, which macOS leaves beside pictures (._1.jpg)."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from None
    files = [p for p in paths if p.suffix.lower() in _known_suffixes() and p.is_file()]
    files = [p for p in files if not p.name.startswith(".")]
    if not files:
        raise UserError(
            f"{folder}: no picture or video in this folder "
            f"(looked for {', '.join(sorted(_known_suffixes()))})"
        )
    return files


def _known_suffixes() -> frozenset[str]:
    return IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _file(path: Path, name: str) -> Source:
    kind = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image"
    return Source(kind, str(path), Path(name).as_posix())


def _with_unique_names(sources: list[Source]) -> list[Source]:
    """Files of one name are called by their paths below the folder that all are in.

    Such a path may be what another file is called by now; then that one gets its path as well.
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
