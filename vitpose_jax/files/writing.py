"""Writing files atomically, and making the folders they go into."""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from vitpose_jax.errors import UserError

DRAFT_PREFIX = ".part-"
"""Prefix of the temporary files that an interrupted process may leave behind."""


def _path(path: epath.PathLike) -> Path:
    """Use pathlib for local paths, since its errors say more than epath's."""
    return epath.Path(path) if "://" in os.fspath(path) else Path(path)


def make_folder(path: epath.PathLike) -> Path:
    """Make a folder and its parents, unless they exist.

    Raises:
        UserError: it cannot be made.
    """
    folder = _path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path}: the folder cannot be made ({error.strerror or error}); choose another place"
        ) from None
    return folder


def draft_of(path: epath.PathLike) -> Path:
    """A temporary path for what will become `path`, beside it and unique to this process."""
    whole = _path(path)
    return whole.with_name(f"{DRAFT_PREFIX}{os.getpid()}-{short_name(whole.name, 220)}")


def short_name(name: str, longest: int) -> str:
    """A file's name; if it has more bytes than `longest`, its beginning and a checksum instead."""
    data = os.fsencode(name)
    if len(data) <= longest:
        return name
    return f"{name[:40]}-{zlib.crc32(data):08x}{Path(name).suffix[:8]}"


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[Path]:
    """Write a file under a temporary name and rename it to `path` when the block succeeds.

    Yields:
        The path to write to.

    Raises:
        UserError: it cannot be written.
    """
    draft = draft_of(path)
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); free some space there, or "
            "choose another place"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def write_text(path: epath.PathLike, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: epath.PathLike, value: Any, indent: int | None = None) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=indent) + "\n")
