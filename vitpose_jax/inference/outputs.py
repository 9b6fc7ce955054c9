"""Where results are written: a separate file for every input, never over an input."""

import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.files.names import spelling
from vitpose_jax.files.writing import DRAFT_PREFIX, short_name
from vitpose_jax.inference.inputs import Source

LONGEST_NAME = 240
"""In bytes; file systems allow 255, and a number may be added."""


KEPT = {"image": ((".jpg", ".jpeg", ".png"), ".jpg"), "video": ((".mp4",), ".mp4")}
"""The suffixes that drawings keep, and the one that others get."""


def results_folder(
    given: str | None, default: str, resume: bool = False, overwrite: bool = False
) -> Path:
    """The folder of a run's results: as given, or else the default with the first free number.

    A run that is resumed, or whose results are overwritten, has the last one that is there.
    """
    if given is not None:
        return Path(given)
    numbered = (Path(default if i == 1 else f"{default}-{i}") for i in itertools.count(1))
    there = list(itertools.takewhile(os.path.lexists, numbered))
    if there and (resume or overwrite):
        return there[-1]
    return Path(f"{default}-{len(there) + 1}" if there else default)


def drawing_paths(folder: Path, sources: Sequence[Source]) -> dict[str, Path]:
    """Where drawn pictures and videos go, by the source's name: JPEG, PNG and MP4 keep their names.

    Others have `.jpg` or `.mp4` appended.
    """

    def suffix(source: Source) -> str:
        kept, added = KEPT["image" if source.kind == "image" else "video"]
        return "" if source.name.lower().endswith(kept) else added

    return _paths(folder, {source.name: suffix(source) for source in sources})


def _paths(folder: Path, suffixes: Mapping[str, str]) -> dict[str, Path]:
    """Output paths in a folder, by the source's name.

    A path is the source's name plus a suffix. A number is put before the last suffix if the path is
    taken by another source, is a parent of another path, or exists as a folder. Paths that differ
    only in case count as equal, as some file systems ignore case.
    """
    wanted = {name: _below(folder, name, suffix) for name, suffix in suffixes.items()}
    parents = {path.parent for path in wanted.values()}
    taken = {spelling(str(above)) for path in parents for above in (path, *path.parents)}
    paths = {}
    # Sources that keep their own names come first.
    for name in sorted(wanted, key=lambda name: wanted[name].name != Path(name).name):
        path, number = wanted[name], 2
        while spelling(str(path)) in taken or path.is_dir():
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
    """Make sure that no output would overwrite an input, directly or through links.

    Raises:
        UserError: one would.
    """
    known = {_identity(path): path for path in inputs}
    known.pop(None, None)
    for path in outputs:
        if (given := known.get(_identity(path))) is not None:
            raise UserError(
                f"{path}: would be written, but is the input {given}; choose another --out"
            )


def refuse_earlier_results(outputs: Iterable[Path]) -> None:
    """Make sure that nothing is where outputs will be written.

    Raises:
        UserError: something is, for instance an earlier run's results.
    """
    for path in outputs:
        if os.path.lexists(path):
            raise UserError(
                f"{path}: is there already; --resume goes on with a run that was stopped, "
                "--overwrite starts anew, --out chooses another folder"
            )


def remove_drafts(outputs: Collection[Path]) -> None:
    """Remove what a killed process was writing to become one of these files."""
    for folder in {path.parent for path in outputs}:
        for draft in folder.glob(f"{DRAFT_PREFIX}*"):
            if folder / draft.name.removeprefix(DRAFT_PREFIX).partition("-")[2] in outputs:
                draft.unlink(missing_ok=True)


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
