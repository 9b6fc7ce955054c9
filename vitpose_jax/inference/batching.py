"""Gathering people of many images into full batches, and returning results to their images."""

from collections import deque
from typing import Any

import numpy as np

from vitpose_jax.inference.network import Network
from vitpose_jax.inference.preparation import Item, crop_parts

BATCHES_IN_FLIGHT = 2

_Member = tuple[Item, int, np.ndarray]
"""An image, the row of one of its people, and their crop."""


class Batches:
    """Runs people as soon as they fill a batch, and appends the result rows to their items."""

    def __init__(self, network: Network, size: int) -> None:
        """Start with no people; the network takes `size` at once."""
        self._network, self._size = network, size
        self._unbatched: deque[_Member] = deque()
        self._running: deque[tuple[list[Item], tuple[Any, ...]]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether no person waits for a batch to be filled."""
        return not self._unbatched

    def add(self, item: Item) -> None:
        """Queue an image's people; wait for the device only if it falls behind."""
        row = 0
        for crops in crop_parts(item):
            self._unbatched.extend((item, row + i, crop) for i, crop in enumerate(crops))
            row += len(crops)
            while len(self._unbatched) >= self._size:
                self._launch()
                if len(self._running) >= BATCHES_IN_FLIGHT:
                    self._collect()

    def flush(self) -> None:
        """Run the remaining people and wait, after which all items are done."""
        while self._unbatched:
            self._launch()
        self.collect()

    def collect(self) -> None:
        """Wait for the people who are in batches."""
        while self._running:
            self._collect()

    def _launch(self) -> None:
        """Start the next batch and return at once; the network says how the last ones are run."""
        waiting = len(self._unbatched)
        size = self._size if waiting >= self._size else self._network.rows(waiting, self._size)
        count = min(size, waiting)
        members = [self._unbatched.popleft() for _ in range(count)]
        padded = members + [members[-1]] * (size - count)
        arrays = (
            np.stack([crop for _, _, crop in padded]),
            np.stack([item.center[row] for item, row, _ in padded]),
            np.stack([item.scale[row] for item, row, _ in padded]),
        )
        self._running.append(([item for item, _, _ in members], self._network.run(*arrays)))

    def _collect(self) -> None:
        """Wait for the oldest batch and return its rows to their images."""
        items, outputs = self._running.popleft()
        outputs = tuple(np.asarray(output) for output in outputs)
        for i, item in enumerate(items):
            item.rows.append(tuple(np.array(output[i]) for output in outputs))
