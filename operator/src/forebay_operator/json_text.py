"""JSON that anybody may have written, such as an image of a tenant."""

import json
from typing import Any

MAX_JSON_DIGITS = 19
"""Of a whole number: those of 64 bits. Longer ones cost time, and no float takes them."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError where it is none, is nested too deep or has a number of more than MAX_JSON_DIGITS digits.
    """
    try:
        return json.loads(text, parse_int=_parse_int)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_JSON_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
