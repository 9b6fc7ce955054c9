"""Running work in other threads while the caller continues."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

WAITING = 16


class Background(contextlib.AbstractContextManager["Background"]):
    """A bounded queue of work for threads; with a single thread, order is kept.

    Closing it finishes the queue, even when an error or Ctrl-C ends the block. After the first
    error, the rest of the queue is dropped and the next call raises that error.
    """

    def __init__(self, threads: int) -> None:
        """Start; up to `threads` tasks run at once, and up to WAITING more are queued."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vitpose-background")
        self._places = threads + WAITING
        self._room = threading.Semaphore(self._places)
        self._error: Exception | None = None

    def submit(self, work: Callable[..., None], *arguments: object) -> None:
        """Queue `work(*arguments)`; block while the queue is full.

        Raises:
            Exception: the first error of earlier work.
        """
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            raise self._error
        self._pool.submit(self._do, work, arguments)

    def _do(self, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
        try:
            if self._error is None:
                work(*arguments)
        except Exception as error:
            self._error = self._error or error
        finally:
            self._room.release()

    def wait(self) -> None:
        """Wait until everything so far is done; raise as `submit` does."""
        taken = 0
        try:
            while taken < self._places:
                self._room.acquire()
                taken += 1
        finally:
            self._room.release(taken) if taken else None
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait until everything is done; raise as `submit` does."""
        self._pool.shutdown()
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._pool.shutdown()
