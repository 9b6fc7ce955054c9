"""JSON that others wrote, in which anything may be wrong."""

import json
from typing import Any


def parse_json(data: bytes) -> Any:
    """The content of a file in UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: it is no JSON, nested too deeply, or has a number of thousands of digits
            (UnicodeDecodeError: it is no text).
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError(str(error)) from None
