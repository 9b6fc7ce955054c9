"""SHA-256 of large files, cached for as long as they do not change."""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.files.cache import cache_folder
from vitpose_jax.files.writing import make_folder, replacing

CLOCK_GRAIN = 2.0  # seconds; the coarsest resolution of file times


def sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, cached for as long as the file does not change.

    Reading a large file takes about as long as loading its weights, so the digest is cached under
    the file's path, size and times. These include the time of its last change (ctime), which no
    program can set: another file put in its place with the same size and date still has another
    ctime. A file changed within CLOCK_GRAIN of being read is not cached.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        status = file.stat()
        stamp = [str(file.resolve()), status.st_ino, status.st_size, status.st_mtime_ns]
        key = hashlib.sha256(json.dumps([*stamp, status.st_ctime_ns]).encode()).hexdigest()[:20]
        kept = cache_folder("digests") / key
        is_settled = os.name != "nt" and time.time() - status.st_ctime > CLOCK_GRAIN
        if is_settled and kept.exists():
            return kept.read_text()
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    if is_settled:
        with contextlib.suppress(OSError, UserError):  # only slows the next start
            make_folder(kept.parent)
            with replacing(kept) as draft:
                draft.write_text(digest)
    return digest
