"""SIGTERM and Ctrl-C treated as requests to finish the step, save and exit."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """Context in which SIGTERM and SIGINT are requests; a second SIGINT is a KeyboardInterrupt.

    With several processes, a request to any of them is seen by all, at the same step.

    Attributes:
        signal: the number of the signal received, or 0.
    """

    class Requested(Exception):
        """Raised at once in an `immediate` block."""

    def __init__(self) -> None:
        self.signal = 0
        self._immediate = False

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.signal == signal.SIGINT:
                raise KeyboardInterrupt
            # Not through `logging`: the signal may have interrupted one of its writes.
            os.write(2, b"stopping after this step; Ctrl-C again stops at once, without saving\n")
        self.signal = int(number)
        if self._immediate:
            raise Interrupt.Requested

    def requested(self, step: int) -> bool:
        """Whether to save and exit after this step."""
        if jax.process_count() > 1:
            if step % 10:
                return False
            seen = multihost_utils.process_allgather(jax.numpy.asarray(self.signal))
            self.signal = int(seen.max())
        return self.signal > 0

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """Let a request end the block at any point, by raising `Requested`.

        With several processes this has no effect, since they have to stay in step.
        """
        self._immediate = jax.process_count() == 1
        try:
            if self._immediate and self.signal:
                raise Interrupt.Requested
            yield
        finally:
            self._immediate = False
