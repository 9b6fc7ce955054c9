"""The one exception addressed to the user, and text made safe to print."""

import re

_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, bidirectional overrides, and surrogates for bytes that are not UTF-8."""


class UserError(ValueError):
    """Something the user can fix: a bad file, option or annotation.

    The message says what was wrong, where (file, key, index), and what to do, in one line. Entry
    points print it without a traceback and exit with status 2.

    Example:
        >>> try:
        ...     load_pose_model("missing.pth")
        ... except UserError as error:
        ...     print(error)
        missing.pth: no such file or folder (nor a hub id of the form owner/name ...)
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM: stop as after Ctrl-C, but exit with status 143."""


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or the name of its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
