"""Showing how far training is: a bar on a terminal, plain log lines elsewhere."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping

import jax
from tqdm import tqdm

log = logging.getLogger(__name__)


class Progress:
    """Counts steps and the time they take, evaluation and saving apart."""

    def __init__(self, start: int, total: int, batch_size: int, samples: str) -> None:
        self._total, self._batch_size, self._samples = total, batch_size, samples
        self._done, self._step = 0, start
        self._since = time.monotonic()
        self._seconds_per_step = 0.0
        show = jax.process_index() == 0 and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=start, unit="step", disable=not show)

    def advance(self) -> None:
        self._done += 1
        self._step += 1
        self._bar.update()

    def rate(self) -> float:
        """Samples per second since the last call."""
        elapsed = time.monotonic() - self._since
        rate = self._done * self._batch_size / max(elapsed, 1e-9)
        self._seconds_per_step = elapsed / max(self._done, 1)
        self._since, self._done = time.monotonic(), 0
        return rate

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """The latest figures, with the time left."""
        loss, rate = values["train/loss"], values["train/per_second"]
        if not self._bar.disable:
            self._bar.set_postfix_str(f"loss {loss:.4g}, {rate:.0f} {self._samples}/s")
        elif jax.process_index() == 0:
            left = tqdm.format_interval((self._total - step) * self._seconds_per_step)
            log.info(
                "step %d of %d: loss %.5g, %.1f %s/s, %s left",
                *(step, self._total, loss, rate, self._samples, left),
            )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time in here is not counted."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - start

    def close(self) -> None:
        self._bar.close()
