"""What a run could not write: told when it begins and when the run ends, not at every step."""

import errno
import logging
import os
from collections import Counter

log = logging.getLogger(__name__)

_REASONS = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)]


class Failures:
    """Counts what is missing by kind; logs a failure if both its kind and its reason are new.

    A full disk makes every row, picture and checkpoint fail; the run goes on and tries again.
    """

    def __init__(self) -> None:
        """Start without failures."""
        self._missing: Counter[str] = Counter()
        self._reasons: list[str] = []

    def note(self, kind: str, error: Exception) -> str:
        """Count a failure of a kind ("checkpoints"); return its reason in few words."""
        reason = _reason(error)
        if isinstance(error, FileNotFoundError) and self._reasons:
            reason = self._reasons[-1]  # a draft that went with an earlier failure
        new = kind not in self._missing and reason not in self._reasons
        self._missing[kind] += 1
        if new:
            self._reasons.append(reason)
            log.error(
                "%s cannot be written (%s): make room; the run goes on, and its end says what is "
                "missing",
                *(kind, reason),
            )
        return reason

    def tell(self, ending: str) -> None:
        """Log what is missing, if anything, and `ending` behind it."""
        if self._missing:
            what = ", ".join(f"{kind} ({count})" for kind, count in self._missing.items())
            log.error("not written: %s, for %s; %s", what, " and ".join(self._reasons), ending)


def _reason(error: Exception) -> str:
    """The system's words if they are in the message, however deep, else its last line."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next((words for words in _REASONS if words in text), text.splitlines()[-1][:300])
