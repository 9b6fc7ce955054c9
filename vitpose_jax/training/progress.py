"""Training progress: a bar on a terminal, log lines elsewhere."""

import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping

import jax
from tqdm import tqdm

log = logging.getLogger(__name__)

RATE_STEPS = 10
"""Fewest steps to average the rate over, since steps in flight may end together."""


class Progress:
    """Counts steps and the time they take, excluding evaluations."""

    def __init__(self, start: int, total: int, batch_size: int, samples: str, every: int) -> None:
        """Start after `start` of `total` steps.

        Args:
            start: steps already taken.
            total: steps of the run.
            batch_size: samples per step.
            samples: what they are, such as "people".
            every: how many of the latest steps the rate is averaged over, at least RATE_STEPS.
        """
        self._total, self._batch_size, self._samples = total, batch_size, samples
        self._paused = 0.0
        self._times = deque([time.monotonic()], maxlen=max(every, RATE_STEPS) + 1)
        show = jax.process_index() == 0 and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=start, unit="step", disable=not show)

    def advance(self) -> None:
        """Count a step."""
        self._times.append(time.monotonic() - self._paused)
        self._bar.update()

    def rate(self) -> float:
        """Return samples per second."""
        return self._batch_size / max(self._seconds_per_step(), 1e-9)

    def _seconds_per_step(self) -> float:
        return (self._times[-1] - self._times[0]) / max(len(self._times) - 1, 1)

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Show the latest figures and the time left."""
        loss, rate = values["train/loss"], values["train/per_second"]
        if not self._bar.disable:
            self._bar.set_postfix_str(f"loss {loss:.4g}, {rate:.0f} {self._samples}/s")
        elif jax.process_index() == 0:
            left = tqdm.format_interval((self._total - step) * self._seconds_per_step())
            log.info(
                "step %d of %d: loss %.5g, %.1f %s/s, %s left",
                *(step, self._total, loss, rate, self._samples, left),
            )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time spent in this block."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - start

    def close(self) -> None:
        """Close the bar, leaving it on the screen."""
        self._bar.close()
