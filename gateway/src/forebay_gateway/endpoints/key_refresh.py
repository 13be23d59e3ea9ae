"""Collects the endpoints whose key Secrets the operator should read again, because the operator does not watch Secrets.

These are the endpoints whose keys are in use, and the endpoints that got a request with an unknown key. So an added
or removed key takes effect at most a minute after a request. Only names are reported, never keys.
"""

import re
import time
from collections.abc import Callable, Iterable

from forebay_kube.endpoint_key import EndpointKey, format_key

REFRESH_SECONDS = 30.0
"""Seconds for which an endpoint is reported. The operator polls more often, and reads a Secret at most once in this
time."""

PEEKED_BYTES = 16 << 10
"""Bytes of the body of a request with an unknown key that are searched for its model."""

_MODEL = re.compile(rb'"model"\s{0,8}:\s{0,8}"([^"\\]{1,512})"')


class KeyRefreshRequests:
    """Collects endpoints, and reports each for REFRESH_SECONDS."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at: dict[EndpointKey, float] = {}

    def note(self, keys: Iterable[EndpointKey]) -> None:
        """Add the endpoints that a request with a key asks for, whether the key is valid or not."""
        now = self._clock()
        for key in keys:
            self._at[key] = now

    def names(self) -> list[str]:
        """The endpoints as NAMESPACE/NAME."""
        since = self._clock() - REFRESH_SECONDS
        self._at = {key: at for key, at in self._at.items() if at >= since}
        return [format_key(key) for key in self._at]


def peek_model(body: bytes | bytearray) -> str:
    """The model that the beginning of a JSON body seems to name; "" if there is no model in it."""
    match = _MODEL.search(body[:PEEKED_BYTES])
    return match[1].decode(errors="replace") if match else ""
