"""Reading JSON files from any source, with one-line errors."""

import codecs
import json
from typing import Any

from etils import epath

from vitpose_jax.errors import UserError


def read_json(path: epath.PathLike) -> Any:
    """Read a JSON file in UTF-8, with or without a byte-order mark.

    NaN and Infinity, which are not JSON but are common, are accepted.

    Args:
        path: a local file, or one on `gs://`.

    Raises:
        UserError: it is missing, unreadable, empty or not JSON.
    """
    try:
        data = epath.Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not data.removeprefix(codecs.BOM_UTF8).strip():
        raise UserError(f"{path}: is empty; JSON is expected")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = str(error).split(";")[0]
        raise UserError(
            f"{path}: is not JSON that can be read ({reason}); download or write it again"
        ) from None


def read_object(path: epath.PathLike) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        UserError: as for `read_json`, or it holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object, not {type(value).__name__}")
    return value


def number(value: Any) -> float | None:
    """Return a JSON number as a float, infinite if it is too large; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
