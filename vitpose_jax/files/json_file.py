"""Reading JSON that others wrote: whatever is wrong with the file is one line."""

import codecs
from pathlib import Path
from typing import Any

from vitpose_jax.errors import UserError
from vitpose_jax.json_text import parse_json


def read_json(path: Path) -> Any:
    """The content of a file in UTF-8, with or without a byte-order mark.

    Raises:
        UserError: it cannot be read, is empty or is not JSON.
    """
    try:
        data = path.read_bytes()
        if not data.removeprefix(codecs.BOM_UTF8).strip():
            raise UserError(f"{path}: is empty; JSON is expected")
        return parse_json(data)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from None
    except ValueError as error:
        reason = str(error).split(";")[0]
        raise UserError(f"{path}: is not JSON that can be read ({reason})") from None


def number(value: Any) -> float | None:
    """A JSON number as a float, infinite where it is too large for one; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
