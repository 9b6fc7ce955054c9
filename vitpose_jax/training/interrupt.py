"""SIGTERM as a request: finish the step, save, exit."""

import contextlib
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils


class Interrupt:
    """Catches SIGTERM while in use as a context.

    With several processes a request to any one of them is seen by all at the same step.
    """

    class Requested(Exception):
        """Raised at once where `immediate` allows it."""

    def __init__(self) -> None:
        self._seen = self._immediate = False

    def __enter__(self) -> "Interrupt":
        self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *error) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _handle(self, number, frame) -> None:
        self._seen = True
        if self._immediate:
            raise Interrupt.Requested

    def requested(self, step: int) -> bool:
        """Whether to save and exit after this step."""
        if jax.process_count() > 1 and step % 10 == 0:
            return bool(multihost_utils.process_allgather(jax.numpy.asarray(self._seen)).any())
        return self._seen and jax.process_count() == 1

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """A stretch that may be abandoned anywhere (evaluation): a request raises `Requested`.

        Not so with several processes, which have to stay together.
        """
        self._immediate = jax.process_count() == 1
        try:
            if self._immediate and self._seen:
                raise Interrupt.Requested
            yield
        finally:
            self._immediate = False
