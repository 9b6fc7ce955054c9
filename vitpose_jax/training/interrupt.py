"""SIGTERM and Ctrl-C as requests: finish the step, save, exit."""

import contextlib
import os
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
    """Catches SIGTERM and SIGINT while in use as a context; a second SIGINT is KeyboardInterrupt.

    With several processes a request to any one of them is seen by all at the same step.

    `signal` is the number of the signal seen, else 0.
    """

    class Requested(Exception):
        """Raised at once where `immediate` allows it."""

    def __init__(self) -> None:
        self.signal = 0
        self._immediate = False

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, frame) -> None:
        if number == signal.SIGINT:
            if self.signal == signal.SIGINT:
                raise KeyboardInterrupt
            # Not through `logging`: the signal may have come in the middle of one of its writes.
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
        """A stretch that may be abandoned anywhere (evaluation): a request raises `Requested`.

        Not so with several processes, which have to stay together.
        """
        self._immediate = jax.process_count() == 1
        try:
            if self._immediate and self.signal:
                raise Interrupt.Requested
            yield
        finally:
            self._immediate = False
