"""x-request-id: a header of every answer of pod and gateway, by which a client's report can be found in the logs.

Gateway and server both keep a valid ID of the client, and make one otherwise.
"""

import random
import re

HEADER = "x-request-id"

_VALID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""The form of a client's ID that is accepted. An ID in another form could fake lines of the log."""


def choose_id(client_id: str) -> str:
    """The client's ID, or a new one if the client's cannot be logged."""
    return client_id if _VALID.fullmatch(client_id) else new_id()


def new_id() -> str:
    """A unique ID: 128 random bits in hexadecimal."""
    return f"{random.getrandbits(128):032x}"
