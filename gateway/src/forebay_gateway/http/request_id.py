"""x-request-id: the same on what the client gets, whoever answers it, and on what the pod gets and logs."""

import random
import re

from forebay_gateway.http.messages import Head

NAME = b"x-request-id"

_GOOD = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What is taken over from the client, as forebay_server does: anything else could fake lines of the log."""


def choose_id(head: Head) -> str:
    """The client's, or a new one."""
    given = head.get(NAME)
    return given if _GOOD.fullmatch(given) else new_id()


def new_id() -> str:
    """One that nobody else has."""
    return f"{random.getrandbits(128):032x}"
