"""People of many images in full batches, and what is found of them back to their images."""

from collections import deque
from collections.abc import Callable

import jax
import numpy as np

from vitpose_jax.inference.preparation import Item

BATCHES_IN_FLIGHT = 2

RunBatch = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[jax.Array, ...]]
"""crops (B, H, W, 3), center and scale (B, 2) -> arrays (B, ...); need not wait for the device."""

_Members = list[tuple[Item, int]]
"""Images and the numbers of their people, in a batch's order."""


class Batches:
    """Sends people off as soon as they fill a batch, and gives their items the rows found."""

    def __init__(self, run: RunBatch, size: int) -> None:
        """Start without people.

        Args:
            run: what to do with a batch.
            size: people per batch.
        """
        self._run, self._size = run, size
        self._unbatched: deque[tuple[Item, int]] = deque()
        self._running: deque[tuple[_Members, tuple[jax.Array, ...]]] = deque()

    def add(self, item: Item) -> None:
        """Take on an image's people; waits for the device only if it falls behind."""
        self._unbatched.extend((item, row) for row in range(len(item.crops)))
        while len(self._unbatched) >= self._size:
            self._launch()
            if len(self._running) >= BATCHES_IN_FLIGHT:
                self._collect()

    def flush(self) -> None:
        """Run what fills no batch and wait for everything; all items are done then."""
        while self._unbatched:
            self._launch()
        while self._running:
            self._collect()

    def _launch(self) -> None:
        """Send off the next batch, or where there is less left its padded rest; returns at once.

        On a CPU, where padding costs as much as people do, the rest goes one by one.
        """
        count, size = min(self._size, len(self._unbatched)), self._size
        if count < size and jax.default_backend() == "cpu":
            count = size = 1
        members = [self._unbatched.popleft() for _ in range(count)]
        padded = members + [members[-1]] * (size - count)
        arrays = (
            np.stack([getattr(item, name)[row] for item, row in padded])
            for name in ("crops", "center", "scale")
        )
        self._running.append((members, self._run(*arrays)))

    def _collect(self) -> None:
        """Wait for the oldest batch and hand its rows to their images."""
        members, outputs = self._running.popleft()
        outputs = jax.device_get(outputs)
        for i, (item, _) in enumerate(members):
            item.rows.append(tuple(np.array(output[i]) for output in outputs))
