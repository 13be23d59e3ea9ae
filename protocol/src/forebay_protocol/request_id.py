"""x-request-id: on every answer, whoever gives it, so that a client's report can be found in the logs."""

import random
import re

HEADER = "x-request-id"

_GOOD = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What is taken over from the client; anything else could fake lines of the log."""


def choose_id(given: str) -> str:
    """The client's own, or a new one where it gave none that may be logged."""
    return given if _GOOD.fullmatch(given) else new_id()


def new_id() -> str:
    """One that nobody else has: 128 random bits in hexadecimal."""
    return f"{random.getrandbits(128):032x}"
