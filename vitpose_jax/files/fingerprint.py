"""Digests of arrays, texts and files, to detect that data have changed."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from etils import epath


@dataclass(frozen=True)
class Fingerprint:
    """Identifies the state of a data set.

    Attributes:
        samples: number of samples.
        digest: digest of the contents.
    """

    samples: int
    digest: str

    def to_dict(self) -> dict[str, int | str]:
        """Return it as JSON-serialisable values."""
        return asdict(self)


def digest(parts: Iterable[np.ndarray | Iterable[str]]) -> str:
    """A digest of arrays (type, shape and values) and series of strings; their order matters."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype.str}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        else:
            for index, text in enumerate(part):
                found.update(("\0" * bool(index) + text).encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def digest_files(paths: Iterable[str]) -> str | None:
    """A digest of the names and bytes of files, including all files in folders.

    Returns:
        The digest, or None if a file is missing or cannot be read.
    """
    found = hashlib.blake2b(digest_size=16)
    try:
        for path in map(epath.Path, paths):
            for file in sorted(path.glob("**/*")) if path.is_dir() else [path]:
                if not file.is_dir():
                    found.update(f"{file.name}\0".encode("utf-8", "surrogateescape"))
                    found.update(file.read_bytes())
    except OSError:
        return None
    return found.hexdigest()
