"""Gathering people of many images into full batches, and returning results to their images."""

from collections import deque
from collections.abc import Callable

import jax
import numpy as np

from vitpose_jax.inference.preparation import Item

BATCHES_IN_FLIGHT = 2

RunBatch = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[jax.Array, ...]]
"""crops (B, H, W, 3), center and scale (B, 2) -> arrays (B, ...), possibly still being computed."""

_Member = tuple[Item, int]
"""An image, and the row of one of its people."""


class Batches:
    """Runs people as soon as they fill a batch, and appends the result rows to their items."""

    def __init__(self, run: RunBatch, size: int) -> None:
        """Start with no people; `run` processes a batch of `size`."""
        self._run, self._size = run, size
        self._unbatched: deque[_Member] = deque()
        self._running: deque[tuple[list[_Member], tuple[jax.Array, ...]]] = deque()

    def add(self, item: Item) -> None:
        """Queue an image's people; wait for the device only if it falls behind."""
        self._unbatched.extend((item, row) for row in range(len(item.crops)))
        while len(self._unbatched) >= self._size:
            self._launch()
            if len(self._running) >= BATCHES_IN_FLIGHT:
                self._collect()

    def flush(self) -> None:
        """Run the remaining people and wait, after which all items are done."""
        while self._unbatched:
            self._launch()
        while self._running:
            self._collect()

    def _launch(self) -> None:
        """Start the next batch and return at once; the last batch is padded if it is not full.

        On a CPU, where padding costs as much as real people, the last ones run one at a time.
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
        """Wait for the oldest batch and return its rows to their images."""
        members, outputs = self._running.popleft()
        outputs = jax.device_get(outputs)
        for i, (item, _) in enumerate(members):
            item.rows.append(tuple(np.array(output[i]) for output in outputs))
