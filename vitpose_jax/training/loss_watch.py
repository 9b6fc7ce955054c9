"""Watching a run's loss without making the device wait for the host."""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from vitpose_jax.errors import UserError

IN_FLIGHT = 2
"""How many steps may be in flight before the metrics of the oldest one are fetched."""


class LossWatch:
    """Fetches each step's metrics with a delay, passes on their means, and stops at a NaN."""

    def __init__(
        self,
        id_key: str,
        folder: Path,
        *,
        every: int,
        last: int,
        write: Callable[[int, dict[str, float]], None],
    ) -> None:
        """Start with no steps.

        Args:
            id_key: the entry of a batch that identifies its rows.
            folder: where to list the rows of a batch that stops the run.
            every, last: `write` is called at multiples of `every` and at the step `last`.
            write: takes a step and the means since the last call or restart (`train/loss`, ...).
        """
        self._id_key, self._folder = id_key, folder
        self._every, self._last, self._write = every, last, write
        self._pending: deque[tuple[int, Mapping[str, jax.Array], np.ndarray | None]] = deque()
        self._recent: list[dict[str, float]] = []

    def add(
        self, step: int, metrics: Mapping[str, jax.Array], batch: Mapping[str, np.ndarray]
    ) -> None:
        """Record a step; raises what `drain` raises."""
        self._pending.append((step, metrics, batch.get(self._id_key)))
        while len(self._pending) > IN_FLIGHT:
            self._fetch()

    def drain(self) -> None:
        """Wait for all steps so far.

        Raises:
            UserError: a loss or a gradient is not finite.
        """
        while self._pending:
            self._fetch()

    def _fetch(self) -> None:
        step, metrics, ids = self._pending.popleft()
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                raise self._failure(step, name, values[name], ids)
        self._recent.append(values)
        if step % self._every == 0 or step == self._last:
            recent, self._recent = self._recent, []
            means = {name: float(np.mean([row[name] for row in recent])) for name in values}
            self._write(step, {f"train/{name}": value for name, value in means.items()})

    def _failure(self, step: int, name: str, value: float, ids: np.ndarray | None) -> UserError:
        whose, look = "", "Lower"
        if ids is not None:
            listed = [str(each) for each in ids.tolist()]
            file = self._folder / f"stopped_at_step_{step}.txt"
            with contextlib.suppress(OSError):
                file.write_text("\n".join(listed) + "\n")
            shown = ", ".join(listed[:16]) + (", ..." if len(listed) > 16 else "")
            whose = f"; the batch's {self._id_key}s: {shown} (all in {file})"
            look = "Look at these, or lower"
        what = "gradient" if name == "grad_norm" else "loss"
        return UserError(
            f"the {what} became {value} at step {step}{whose}. {look} config.optimizer.lr; "
            "repeat the command to resume from the last good checkpoint"
        )
