"""Work that other threads do meanwhile."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

WAITING = 16


class Background(contextlib.AbstractContextManager):
    """Has work done by threads; one thread does it in the order in which it was handed over.

    Closing it finishes what was handed over, also where an error or Ctrl-C ends the block. When
    something fails, what is waiting is dropped, and the caller learns of it from the next call.
    """

    def __init__(self, threads: int) -> None:
        """Start.

        Args:
            threads: how many things are done at once; WAITING more may wait.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vitpose-background")
        self._room = threading.Semaphore(threads + WAITING)
        self._error: Exception | None = None

    def submit(self, work: Callable[..., None], *arguments: object) -> None:
        """Have `work(*arguments)` done; waits while too much is waiting.

        Raises:
            Exception: the first that work handed over before has raised.
        """
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            raise self._error
        self._pool.submit(self._do, work, arguments)

    def _do(self, work: Callable[..., None], arguments: tuple) -> None:
        try:
            if self._error is None:
                work(*arguments)
        except Exception as error:
            self._error = self._error or error
        finally:
            self._room.release()

    def close(self) -> None:
        """Wait until all is done; raises as `submit` does."""
        self._pool.shutdown()
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._pool.shutdown()
