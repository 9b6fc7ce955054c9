"""Running work in other threads while the caller continues."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

WAITING = 16
WAITING_BYTES = 2**27


class Background(contextlib.AbstractContextManager["Background"]):
    """A bounded queue of work for threads; with a single thread, order is kept.

    Closing it finishes the queue, even when an error or Ctrl-C ends the block. After the first
    error, the rest of the queue is dropped and the next call raises that error.
    """

    def __init__(self, threads: int) -> None:
        """Start; up to `threads` tasks run at once, and up to WAITING more are queued."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vitpose-background")
        self._most, self._count, self._bytes = threads + WAITING, 0, 0
        self._changed = threading.Condition()
        self._error: Exception | None = None

    def submit(self, work: Callable[..., None], *arguments: object, size: int = 0) -> None:
        """Queue `work(*arguments)`; block while the queue is full.

        `size` is what the arguments take, in bytes; together they take at most WAITING_BYTES, or as
        much as one of them.

        Raises:
            Exception: the first error of earlier work.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size))
            if self._error is not None:
                raise self._error
            self._pool.submit(self._do, work, arguments, size)
            self._count, self._bytes = self._count + 1, self._bytes + size

    def _has_room(self, size: int) -> bool:
        fits = not self._bytes or self._bytes + size <= WAITING_BYTES
        return self._count < self._most and fits

    def _do(self, work: Callable[..., None], arguments: tuple[object, ...], size: int) -> None:
        try:
            if self._error is None:
                work(*arguments)
        except Exception as error:
            self._error = self._error or error
        finally:
            with self._changed:
                self._count, self._bytes = self._count - 1, self._bytes - size
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait until everything so far is done; raise as `submit` does."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count)
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
