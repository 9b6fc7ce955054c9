"""What C libraries print to the terminal by themselves: held back, or left out.

libjpeg and libtiff comment on damaged pictures without saying which; our own messages name them.
"""

import contextlib
import faulthandler
import io
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

_ABOUT_PICTURES = re.compile(
    rb"(Corrupt JPEG|Premature end of JPEG|Invalid SOS|Unsupported marker type|Unsupported JPEG|"
    rb"Inconsistent progression|Bogus |Application transferred too|Warning: unknown JFIF|"
    rb"Unknown Adobe|Invalid JPEG|Invalid component|Not a JPEG|libpng |"
    rb"([\w.]+: )?(TIFF|LZW|JPEG|ZIP|Fax3|PackBits|OJPEG|Deflate|_TIFF)\w*: |\w+\.tif: )[^\n]*\n"
)


@contextlib.contextmanager
def native_messages(delay: float = 0.0) -> Iterator[None]:
    """Context in which C code's messages on stderr come without libjpeg's and libtiff's.

    Python's own go to the terminal as before.

    Args:
        delay: seconds until a message is shown. If the process ends before, it never is.
    """
    try:
        sys.stderr.flush()
        ours = os.dup(2)
    except (OSError, AttributeError, ValueError):  # there is no terminal or file
        yield
        return
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    before = sys.stderr
    if _is_at(before, 2):
        sys.stderr = os.fdopen(os.dup(ours), "w", buffering=1, errors="backslashreplace")
        _send_logs(before, sys.stderr)
    traces = faulthandler.is_enabled()
    if traces:
        faulthandler.enable(ours)
    thread = threading.Thread(target=_forward, args=(reading, ours, delay), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(ours, 2)  # closes the pipe, which ends the thread
        thread.join(delay + 1)
        if sys.stderr is not before:
            _send_logs(sys.stderr, before)
            sys.stderr.close()
            sys.stderr = before
        if traces:
            faulthandler.enable(2)


def _forward(reading: int, to: int, delay: float) -> None:
    with os.fdopen(reading, "rb") as messages:
        for line in messages:
            if not _ABOUT_PICTURES.match(line):
                time.sleep(delay)
                os.write(to, line)
    os.close(to)


def _is_at(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, AttributeError, io.UnsupportedOperation):  # replaced, as tests do
        return False


def _send_logs(here: TextIO, there: TextIO) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is here:
            handler.setStream(there)
