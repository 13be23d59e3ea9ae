"""Other autoscalers' published rules, with their default settings, for bench.scaling."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from forebay_operator.autoscaling import History, Policy, decide
from forebay_operator.pods.load import GatewayLoad, PodLoad


@dataclass(frozen=True)
class Moment:
    """The load in one second, as an autoscaler sees it: waiting and running requests, and wanted replicas."""

    at: int
    waiting: int
    running: list[int]
    begun: list[int]
    arrived: int
    asked: int

    @property
    def load(self) -> int:
        """The number of requests that run or wait."""
        return self.waiting + sum(self.running)


Rule = Callable[[Moment], int]
"""A function that gets the moment once a second, and returns the number of replicas that there should be."""


@dataclass
class Forebay:
    """Ours, through the code that the operator runs: a sample every 2 s."""

    policy: Policy
    history: History = field(default_factory=lambda: History(600.0))

    def __call__(self, moment: Moment) -> int:
        """A Rule."""
        if moment.at % 2:
            return moment.asked
        queued = moment.waiting if moment.running else 0  # in the pods if there are any, else at the gateway
        pods: dict[str, PodLoad | None] = {}
        for number, (running, begun) in enumerate(zip(moment.running, moment.begun, strict=True)):
            share = queued if number == 0 else 0
            pods[str(number)] = PodLoad(running + share, begun + share, running, share)
        held = GatewayLoad(moment.waiting - queued, moment.arrived)
        self.history.add(float(moment.at), pods, [("gateway", held)], len(pods))
        return decide(self.policy, list(self.history.samples), moment.asked)


@dataclass
class Knative:
    """The KPA: https://knative.dev/docs/serving/autoscaling/kpa-specific/ and pkg/autoscaler/scaling/autoscaler.go.

    Stable window 60 s, panic window 6 s, panic at twice the ready pods, at most half of the pods go at once, the last
    30 s after the stable window without traffic; a decision every 2 s.
    """

    target: float
    most: int
    loads: deque[int] = field(default_factory=lambda: deque(maxlen=60))
    panicking: int | None = None
    panic_pods: int = 0
    quiet: int | None = None

    def __call__(self, moment: Moment) -> int:
        """A Rule."""
        self.loads.append(moment.load)
        if moment.at % 2:
            return moment.asked
        lately = list(self.loads)[-6:]
        ready = max(1, len(moment.running))
        fewest = ready // 2
        stable = math.ceil(sum(self.loads) / len(self.loads) / self.target)
        panic = math.ceil(sum(lately) / len(lately) / self.target)
        if panic / ready >= 2:
            self.panicking = moment.at
        elif self.panicking is not None and moment.at - self.panicking > 60:
            self.panicking, self.panic_pods = None, 0
        wanted = max(stable, fewest)
        if self.panicking is not None:
            self.panic_pods = max(self.panic_pods, wanted, panic)
            wanted = self.panic_pods
        return min(self.most, self._to_zero(moment, wanted))

    def _to_zero(self, moment: Moment, wanted: int) -> int:
        if wanted or any(self.loads):
            self.quiet = None
            return max(wanted, 1)
        self.quiet = moment.at if self.quiet is None else self.quiet
        return min(moment.asked, 1) if moment.at - self.quiet < 30 else 0


@dataclass
class Horizontal:
    """The HPA with an external metric as an average value:
    https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/.

    A decision every 15 s, tolerance 0.1, at most 4 pods or 100 % more at once, fewer after 300 s; never zero.
    """

    target: float
    most: int
    wanted: deque[tuple[int, int]] = field(default_factory=deque)

    def __call__(self, moment: Moment) -> int:
        """A Rule."""
        asked = max(1, moment.asked)
        if moment.at % 15:
            return asked
        near = abs(moment.load / (self.target * asked) - 1) <= 0.1
        wanted = asked if near else min(self.most, max(1, math.ceil(moment.load / self.target)))
        self.wanted.append((moment.at, wanted))
        while self.wanted[0][0] <= moment.at - 300:
            self.wanted.popleft()
        if wanted < asked:
            return min(asked, max(each for _, each in self.wanted))
        return min(wanted, max(2 * asked, asked + 4))
