"""The one exception addressed to the user, and text made safe to print."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, bidirectional overrides, and surrogates for bytes that are not UTF-8."""


class UserError(ValueError):
    """Something the user can fix: a bad file, option or annotation.

    The message says what was wrong, where (file, key, index), and what to do, in one line. Where
    several things are wrong, each has a message. Entry points print them without a traceback and
    exit with status 2.

    Example:
        >>> try:
        ...     load_pose_model("missing.pth")
        ... except UserError as error:
        ...     print(error)
        missing.pth: no such file or folder, nor the name of a published model ...
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


def together(*actions: Callable[[], object]) -> list[object]:
    """Return what the actions return.

    Raises:
        UserError: with the messages of all actions that raised one.
    """
    results: list[object] = []
    messages: list[object] = []
    for action in actions:
        try:
            results.append(action())
        except UserError as error:
            messages += error.args
    if messages:
        raise UserError(*messages)
    return results


def short_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function raise UserErrors without the frames below it: their message says it all."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            raise error.with_traceback(None) from None

    return call


class Terminated(KeyboardInterrupt):
    """SIGTERM: stop as after Ctrl-C, but exit with status 143."""


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or the name of its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shown(error: UserError, prefix: str = "") -> str:
    """Return the error's messages for a terminal, one a line."""
    return "\n".join(prefix + printable(str(message)) for message in error.args)


def printable(text: str) -> str:
    r"""Make text safe for one line of a terminal, or for JSON.

    Control characters are escaped (`\x0a`, `\x1b`), and so are bytes of a file name that are not
    UTF-8 (`\xe9`).
    """

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate for a byte of a file name
            code -= 0xDC00
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _UNSHOWN.sub(escape, text)
