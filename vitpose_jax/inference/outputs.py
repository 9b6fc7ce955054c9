"""Where results go: every input its own file, and never an input's place."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.files.names import spelling
from vitpose_jax.files.writing import short_name
from vitpose_jax.inference.inputs import Source

LONGEST_NAME = 240
"""Bytes; file systems take 255, and a number may be added."""


def picture_paths(folder: Path, sources: Sequence[Source]) -> dict[str, Path]:
    """Where drawn pictures go, by source's name: JPEG and PNG under their own names."""
    pictures = [source.name for source in sources if source.kind == "image"]
    web = (".jpg", ".jpeg", ".png")
    return _paths(folder, {n: "" if n.lower().endswith(web) else ".jpg" for n in pictures})


def video_paths(folder: Path, sources: Sequence[Source]) -> dict[str, Path]:
    """Where annotated videos go, by source's name."""
    videos = [source.name for source in sources if source.kind != "image"]
    return _paths(folder, dict.fromkeys(videos, ".poses.mp4"))


def _paths(folder: Path, suffixes: Mapping[str, str]) -> dict[str, Path]:
    """Where something drawn on each source goes, by the source's name.

    That is into the folder, under the source's name and a suffix, with a number before the last
    suffix where the path is another source's, a folder above another one, or a folder already.
    Case does not tell two paths apart, as some file systems ignore it.
    """
    wanted = {name: _below(folder, name, suffix) for name, suffix in suffixes.items()}
    folders = {spelling(str(above)) for path in wanted.values() for above in path.parents}
    taken: set[str] = set()
    paths = {}
    # Who keeps their own name comes first.
    for name in sorted(wanted, key=lambda name: wanted[name].name != Path(name).name):
        path, number = wanted[name], 2
        while spelling(str(path)) in taken | folders or path.is_dir():
            path = wanted[name].with_stem(f"{wanted[name].stem}-{number}")
            number += 1
        taken.add(spelling(str(path)))
        paths[name] = path
    return paths


def _below(folder: Path, name: str, suffix: str) -> Path:
    parts = [part for part in Path(name).parts if part not in ("..", "/")]
    path = folder.joinpath(*parts)
    return path.with_name(short_name(path.name + suffix, LONGEST_NAME))


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Look whether something to be written is an input, directly or through links.

    Raises:
        UserError: it is.
    """
    known = {_identity(path): path for path in inputs}
    known.pop(None, None)
    for path in outputs:
        if (given := known.get(_identity(path))) is not None:
            raise UserError(
                f"{path}: would be written, but is the input {given}; choose another --out"
            )


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
