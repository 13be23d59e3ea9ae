"""Picks the pod for a request: the conversation's own pod, or the pod with the fewest outstanding requests.

Affinity is rendezvous hashing. So every gateway sends a conversation to the same pod, and an added or removed pod moves
only the conversations of that pod. Affinity is bounded as in consistent hashing with bounded loads (Mirrokni, Thorup,
Zadimoghaddam, 2016): it gives no pod more than LOAD_BOUND times its fair share.
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
"""Seconds for which a pod that accepted no connection is skipped."""


def pick(pods: Sequence[Address], outstanding: Mapping[Address, int], affinity: bytes) -> Address:
    """Pick one of `pods`, which is not empty. `affinity` identifies a conversation; b"" for none."""
    if not affinity:
        fewest = min(outstanding.get(pod, 0) for pod in pods)
        return random.choice([pod for pod in pods if outstanding.get(pod, 0) == fewest])
    share = math.ceil(LOAD_BOUND * (sum(outstanding.get(pod, 0) for pod in pods) + 1) / len(pods))
    ordered = sorted(
        pods, key=lambda pod: hashlib.sha256(b"%s %s %d" % (affinity, pod.host.encode(), pod.port)).digest()
    )
    return next(pod for pod in ordered if outstanding.get(pod, 0) < share)


class Balancer:
    """Counts the outstanding requests of this gateway at each pod."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._outstanding: dict[Address, int] = {}
        self._suspects: dict[Address, float] = {}

    def usable(self, pods: Sequence[Address]) -> list[Address]:
        """The pods that may be tried."""
        if self._suspects:
            now = self._clock()
            self._suspects = {pod: until for pod, until in self._suspects.items() if until > now}
        return [pod for pod in pods if pod not in self._suspects]

    def pick(self, pods: Sequence[Address], affinity: bytes) -> Address | None:
        """The pod for a request; None if no pod may be tried."""
        usable = self.usable(pods)
        return pick(usable, self._outstanding, affinity) if usable else None

    def find(self, pods: Sequence[Address], name: str) -> Address | None:
        """The pod of this name; None if it does not exist or must not be tried."""
        return next((pod for pod in self.usable(pods) if pod.name == name), None) if name else None

    def suspect(self, pod: Address) -> None:
        """Skip a pod for SUSPECT_SECONDS, because it accepted no connection."""
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
