"""Parses JSON from an untrusted source, such as a tenant's image.

The pod clients and the parser of the served model names call it.
"""

import json
from typing import Any

MAX_JSON_DIGITS = 19
"""Digits of a whole number: enough for 64 bits. Longer numbers cost time, and no float holds them."""


def parse_json(text: str) -> Any:
    """Parse a JSON text.

    Raises ValueError if it is not JSON, is nested too deep, or has a number of more than MAX_JSON_DIGITS digits.
    """
    try:
        return json.loads(text, parse_int=_parse_int)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_JSON_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
