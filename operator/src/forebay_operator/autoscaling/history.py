"""Turns the loads that pods and gateways report into samples over time, for the policy. Pure."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forebay_operator.pods.load import GatewayLoad, PodLoad

REQUEST_RATE_WINDOW = 30.0
"""Seconds over which finished requests are averaged to a rate."""


@dataclass(frozen=True)
class Sample:
    """The load of an endpoint at one moment.

    Attributes:
        at: the moment, in seconds of a monotonic clock.
        load: requests that run or wait, in pods, gateways and queues.
        waiting: the part of `load` that no engine has begun.
        ready: ready replicas.
        unresponsive: replicas that did not answer when their load was read.
        idle: seconds in which a replica was ready, and it is certain that no request ran, waited or arrived.
        capacity: how many requests one replica ran when requests last waited for it, or more if it has run more since;
            0 while unknown.
        rate: finished requests per second, over REQUEST_RATE_WINDOW.
    """

    at: float
    load: int = 0
    waiting: int = 0
    ready: int = 0
    unresponsive: int = 0
    idle: float = 0.0
    capacity: float = 0.0
    rate: float = 0.0


@dataclass
class History:
    """The samples of one endpoint in the last `length` seconds, and the last sample before them.

    Time without samples, such as before a change of the leader, counts as time in use.
    """

    length: float
    samples: deque[Sample] = field(default_factory=deque)
    _counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Begun and finished requests, by the pod or gateway that counts them."""

    _finished: deque[tuple[float, int]] = field(default_factory=deque)
    _used: float = -math.inf
    """The last time at which the endpoint was in use, or may have been in use."""

    def add(
        self, at: float, pods: Mapping[str, PodLoad | None], held: Sequence[tuple[str, GatewayLoad | None]], ready: int
    ) -> Sample:
        """Add a sample. Returns the sample.

        Args:
            at: the moment, in seconds of a monotonic clock.
            pods: the load of each pod by name; None for a pod that did not answer.
            held: the load of each gateway, with its name; None for a gateway that did not answer.
            ready: the number of ready replicas.
        """
        loads = {name: load for name, load in pods.items() if load}
        answered = {name: one for name, one in held if one}
        counts = {
            **{name: (load.begun, load.begun - load.in_flight) for name, load in loads.items()},
            **{name: (one.begun, 0) for name, one in answered.items()},
        }
        begun = sum(count[0] - self._counts.get(name, (0, 0))[0] for name, count in counts.items())
        # a pod seen for the first time is skipped, because the new part of its counter is unknown
        before = self._counts
        finished = sum(max(0, count[1] - before[name][1]) for name, count in counts.items() if name in before)
        first = not self.samples
        self._counts = {**{name: count for name, count in self._counts.items() if name in pods}, **counts}
        # every gateway reports the same jobs
        parking = sum(one.waiting for one in answered.values()) + max(
            (one.queued for one in answered.values()), default=0
        )
        queued = sum(load.waiting for load in loads.values())
        load = parking + sum(load.total for load in loads.values())
        unresponsive = len(pods) - len(loads)
        incomplete = unresponsive > 0 or not ready or not held or len(answered) < len(held)
        capacity = self.samples[-1].capacity if self.samples else 0.0
        if running_when_full := [load.total - load.waiting for load in loads.values() if load.waiting]:
            capacity = max(1.0, sum(running_when_full) / len(running_when_full))
        if capacity:
            # a short queue, such as behind long prompts, does not show the capacity; it is at least the current number
            capacity = max(capacity, *(float(load.running) for load in loads.values()), 0.0)
        if first or begun or load or incomplete:
            self._used = at
        sample = Sample(
            at=at,
            load=load,
            waiting=parking + queued,
            ready=ready,
            unresponsive=unresponsive,
            idle=at - self._used,
            capacity=capacity,
            rate=self._rate(at, 0 if first else finished),
        )
        self.samples.append(sample)
        while len(self.samples) > 2 and self.samples[1].at <= at - self.length:
            self.samples.popleft()
        return sample

    def _rate(self, at: float, finished: int) -> float:
        self._finished.append((at, finished))
        while len(self._finished) > 2 and self._finished[1][0] <= at - REQUEST_RATE_WINDOW:
            self._finished.popleft()
        elapsed = at - self._finished[0][0]
        return sum(count for _, count in list(self._finished)[1:]) / elapsed if elapsed else 0.0
