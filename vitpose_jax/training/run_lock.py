"""A lock that lets only one run train in a folder; it is released when its process ends."""

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

import jax
import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import make_folder
from vitpose_jax.training.sharding import gather_rows

log = logging.getLogger(__name__)

LOCK_FILE = "run.lock"
_TAKEN = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


class RunLock:
    """Context in which no other run trains in a folder; process 0 holds the lock for its run.

    The lock is the operating system's own (`fcntl.lockf`). It is released when the process ends in
    any way, is not inherited by worker processes, and works across machines on NFS. A mounted
    bucket may lock only within one machine, or not at all, which is logged. Reading a run, for
    evaluation or export, needs no lock.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder and lock it.

        Raises:
            UserError: another process trains there (the message says which), or the folder cannot
                be written.
        """
        self._path = folder / LOCK_FILE
        self._file: int | None = None
        refused = None
        if jax.process_index() == 0:
            try:
                self._take()
            except UserError as error:
                refused = error
        if gather_rows(np.array([refused is not None])).any():
            raise refused or UserError(f"process 0 could not lock {folder}; see its message")

    def _take(self) -> None:
        make_folder(self._path.parent)
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if self._file is not None and error.errno in _TAKEN:
                holder = _describe(os.read(self._file, 4096))
                self.release()
                raise UserError(
                    f"{self._path.parent}: another process trains there ({holder}). Wait for it, "
                    "or choose another --workdir"
                ) from None
            if self._file is None or error.errno not in _NO_LOCKS:
                self.release()
                raise UserError(
                    f"{self._path}: cannot be locked ({error.strerror}); choose another --workdir"
                ) from None
            log.warning(
                "%s cannot be locked (%s): make sure that nothing else trains there",
                *(self._path.parent, error.strerror),
            )
        since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        with contextlib.suppress(OSError):  # a full disk: locked, but anonymous
            os.truncate(self._file, 0)
            os.write(self._file, json.dumps(about).encode() + b"\n")
            os.fsync(self._file)
        self._identity = os.stat(self._path)

    def check(self, step: int) -> None:
        """Make sure that the folder is still the one that was locked.

        Raises:
            UserError: it was removed or replaced, so anything written to it is lost.
        """
        if self._file is None:
            return
        try:
            # Do not open it: closing any descriptor of the file would release the lock.
            there = os.path.samestat(os.stat(self._path), self._identity)
        except FileNotFoundError:
            there = False
        if not there:
            raise UserError(
                f"step {step}: {self._path.parent} was removed or replaced while this run was "
                "writing to it, and its checkpoints with it; start it again"
            )

    def release(self) -> None:
        """Release the lock. The file stays, since removing it could race with another run."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.release()


def _describe(content: bytes) -> str:
    """Describe the holder of a lock, from what it wrote into the file."""
    try:
        about = json.loads(content)
        return f"pid {about['pid']} on {about['host']}, since {about['since']}"
    except (ValueError, KeyError, TypeError):
        return "unknown"
