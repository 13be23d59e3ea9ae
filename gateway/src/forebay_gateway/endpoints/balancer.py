"""Which of an endpoint's ready pods a request goes to: least outstanding, and one conversation to one pod where its
load allows.

Affinity is rendezvous hashing, so every gateway sends a conversation to the same pod and a pod that comes or goes moves
only its own. The bound is that of consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016): no pod
gets more than LOAD_BOUND times its fair share for the sake of affinity.
"""

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from forebay_gateway.endpoints.endpoint import Address

LOAD_BOUND = 1.25
SUSPECT_SECONDS = 2.0
"""How long a pod that took no connection is passed over."""


def pick(pods: Sequence[Address], outstanding: Mapping[Address, int], affinity: bytes) -> Address:
    """One of `pods`, which are not none. `affinity` is the same for requests of one conversation, b"" for none."""
    if not affinity:
        fewest = min(outstanding.get(pod, 0) for pod in pods)
        return random.choice([pod for pod in pods if outstanding.get(pod, 0) == fewest])
    share = math.ceil(LOAD_BOUND * (sum(outstanding.get(pod, 0) for pod in pods) + 1) / len(pods))
    ordered = sorted(
        pods, key=lambda pod: hashlib.sha256(b"%s %s %d" % (affinity, pod.host.encode(), pod.port)).digest()
    )
    return next(pod for pod in ordered if outstanding.get(pod, 0) < share)


class Balancer:
    """Counts what this gateway has outstanding at each pod."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._outstanding: dict[Address, int] = {}
        self._suspects: dict[Address, float] = {}

    def usable(self, pods: Sequence[Address]) -> list[Address]:
        """Those that may be tried."""
        if self._suspects:
            now = self._clock()
            self._suspects = {pod: until for pod, until in self._suspects.items() if until > now}
        return [pod for pod in pods if pod not in self._suspects]

    def pick(self, pods: Sequence[Address], affinity: bytes) -> Address | None:
        """The pod that a request goes to; None where none may be tried."""
        usable = self.usable(pods)
        return pick(usable, self._outstanding, affinity) if usable else None

    def find(self, pods: Sequence[Address], name: str) -> Address | None:
        """The pod of this name; None where it is not there, or may not be tried."""
        return next((pod for pod in self.usable(pods) if pod.name == name), None) if name else None

    def suspect(self, pod: Address) -> None:
        """The pod took no connection."""
        self._suspects[pod] = self._clock() + SUSPECT_SECONDS

    @contextmanager
    def at(self, pod: Address) -> Iterator[None]:
        """Count a request at a pod for as long as the context lasts."""
        self._outstanding[pod] = self._outstanding.get(pod, 0) + 1
        try:
            yield
        finally:
            self._outstanding[pod] -= 1
            if not self._outstanding[pod]:
                del self._outstanding[pod]
