"""How much of a data set may be unusable before all of it is refused."""

import logging
import threading
from typing import Any

from vitpose_jax.errors import UserError

log = logging.getLogger(__name__)

MAX_BAD_SHARE = 0.05
"""Default for the largest share of malformed annotations, or of unreadable images, to skip."""

_ALWAYS_SKIPPED = 2  # however small the data set, unless the share is 0


def too_many(bad: int, total: int, max_share: float) -> bool:
    """Whether `bad` of `total` is more than a share (0 to 1); all of them always are too many."""
    tolerated = max(max_share * total, _ALWAYS_SKIPPED if max_share else 0)
    return bad > tolerated or 0 < total <= bad


class BadImageCount:
    """Warns of each unreadable image once, and raises when there are too many.

    Every worker process keeps its own count.
    """

    def __init__(self, num_images: int, max_bad_share: float) -> None:
        self._num_images, self._max_bad_share = num_images, max_bad_share
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, problem: str) -> None:
        """Count an unreadable image.

        Raises:
            UserError: too many images are unreadable. Every later call raises too, so that all
                threads that prepare batches ahead stop.
        """
        with self._lock:
            is_new = problem not in self._seen
            self._seen.add(problem)
            count = len(self._seen)
        if is_new:
            log.warning("skipped image (%d so far): %s", count, problem)
        if too_many(count, self._num_images, self._max_bad_share):
            raise UserError(
                f"{count} of {self._num_images} images cannot be used (at most "
                f"{self._max_bad_share:.0%} are skipped); one of them: {problem}"
            )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
