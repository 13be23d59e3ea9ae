"""The endpoints whose Secrets with keys the operator should read again, since nobody watches them: those whose keys are
in use, and those that were asked with a key that nobody knows. So a key that was added or removed counts within a
minute. Keys are never told."""

import re
import time
from collections.abc import Callable, Iterable

from forebay_kube.endpoint_key import EndpointKey, format_key

REFRESH_SECONDS = 30.0
"""For which an endpoint is named. The operator asks more often, and reads a Secret at most as often."""

PEEKED_BYTES = 16 << 10
"""Bytes of the body of a request with an unknown key that are looked at for its model."""

_MODEL = re.compile(rb'"model"\s{0,8}:\s{0,8}"([^"\\]{1,512})"')


class KeyRefreshRequests:
    """Of the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at: dict[EndpointKey, float] = {}

    def note(self, keys: Iterable[EndpointKey]) -> None:
        """A request that has shown a key asks for these endpoints, whether it opens them or not."""
        now = self._clock()
        for key in keys:
            self._at[key] = now

    def names(self) -> list[str]:
        """As NAMESPACE/NAME."""
        since = self._clock() - REFRESH_SECONDS
        self._at = {key: at for key, at in self._at.items() if at >= since}
        return [format_key(key) for key in self._at]


def peek_model(body: bytes | bytearray) -> str:
    """The model that the beginning of a JSON body seems to name; "" where it names none."""
    match = _MODEL.search(body[:PEEKED_BYTES])
    return match[1].decode(errors="replace") if match else ""
