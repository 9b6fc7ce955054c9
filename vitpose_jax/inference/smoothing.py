"""Smoothing poses in videos: the One Euro filter (Casiez, Roussel and Vogel, CHI 2012).

A low-pass filter whose cutoff rises with speed: still joints do not jitter, fast ones do not lag.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitpose_jax.inference.person import Person
from vitpose_jax.inference.tracking import TIME_ROUNDING

GAP = 0.5


class OneEuroFilter:
    """Filters arrays of one shape, element by element."""

    def __init__(
        self, min_cutoff: float = 1.0, beta: float = 0.0, speed_cutoff: float = 1.0
    ) -> None:
        """Start without history.

        Args:
            min_cutoff: cutoff at rest in Hz; lower is steadier.
            beta: rise of the cutoff in Hz per unit of speed; higher lags less.
            speed_cutoff: cutoff in Hz for smoothing the speed itself.
        """
        self._min_cutoff, self._beta, self._speed_cutoff = min_cutoff, beta, speed_cutoff
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | float = 0.0

    def __call__(self, value: np.ndarray, elapsed: float) -> np.ndarray:
        """Filter the next value, `elapsed` seconds (> 0) after the previous one."""
        if self._value is None:
            self._value = np.asarray(value, np.float64)
            return self._value
        speed = (value - self._value) / elapsed
        self._speed += _weight(self._speed_cutoff, elapsed) * (speed - self._speed)
        cutoff = self._min_cutoff + self._beta * np.abs(self._speed)
        self._value = self._value + _weight(cutoff, elapsed) * (value - self._value)
        return self._value


def _weight(cutoff: np.ndarray | float, elapsed: float) -> np.ndarray | float:
    """How much of a new value a first-order low-pass filter lets through."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * elapsed))


class PoseSmoother:
    """Smooths the keypoints of tracked people, with a filter for each person.

    Coordinates are filtered in units of the person's size (the square root of the box's area), so
    that the same settings suit people near and far. The filter restarts when a person was missing
    for GAP seconds.

    Example:
        >>> box, smoother = np.array([10.0, 20, 60, 150]), PoseSmoother()
        >>> for time, x in ((0.0, 50.0), (0.1, 51.0), (0.2, 50.0)):  # it trembles
        ...     person = Person(np.full((17, 2), x), np.ones(17), box, track=1)
        ...     (smooth,) = smoother.update([person], time)
        >>> bool(50 < smooth.keypoints[0, 0] < 50.5)
        True
    """

    def __init__(self, min_cutoff: float = 1.5, beta: float = 3.0) -> None:
        """Start without history; `min_cutoff` and `beta` as in `OneEuroFilter`."""
        self._min_cutoff, self._beta = min_cutoff, beta
        self._filters: dict[int, tuple[OneEuroFilter, float, float]] = {}

    def update(self, people: Sequence[Person], time: float) -> list[Person]:
        """The next frame's people with smoothed keypoints; people without a track are unchanged.

        `time` is the frame's time in seconds, later than the previous frame's.
        """
        earliest = time - GAP - TIME_ROUNDING
        self._filters = {n: known for n, known in self._filters.items() if known[2] >= earliest}
        return [p if p.track is None else self._smooth(p, p.track, time) for p in people]

    def _smooth(self, person: Person, track: int, time: float) -> Person:
        if person.score <= 0:
            return person
        known = self._filters.get(track)
        if known is None:
            size = float(np.sqrt(np.prod(person.box[2:])))
            known = OneEuroFilter(self._min_cutoff, self._beta), size, -math.inf
        filter_, size, before = known
        self._filters[track] = filter_, size, time
        smooth = filter_(person.keypoints / size, time - before) * size
        return replace(person, keypoints=smooth.astype(np.float32))
