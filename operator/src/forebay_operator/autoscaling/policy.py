"""From the samples of a while to a number of replicas: a pure function. `python -m bench.scaling` measures it.

Each sample is turned into a demand, in replicas. More come when the mean demand of the last seconds is well above what
is there; fewer when it has not needed as many for a while, which is HPA's stabilization window
(https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/). A queue counts in full although a
replica takes a minute to start: on a minute's backlog a replica too many costs less than the requests that wait.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from forebay_operator.autoscaling.history import Sample
from forebay_operator.spec import Scaling, read_duration

TOLERANCE = 0.3
"""Share by which the demand must exceed the replicas before more come. A replica takes some more than its target, and
a replica for every ripple would be gone before it has started; 0.1 costs 5 % more on the bench's traces."""


@dataclass(frozen=True)
class Policy:
    """The scaling of an endpoint, with all times in seconds.

    Attributes:
        min_replicas, max_replicas: bounds of the number of replicas; `min_replicas` may be 0.
        concurrency: requests that a replica should have at once, or 0 where `queue_delay` decides.
        queue_delay: how long a request may wait for a replica.
        idle_timeout: how long no request may come before the last replica is removed.
        scale_up_window: the demand is averaged over this time.
        scale_down_window: replicas are removed when fewer were enough for this time.
    """

    min_replicas: int
    max_replicas: int
    concurrency: int = 32
    queue_delay: float = 0.0
    idle_timeout: float = 300.0
    scale_up_window: float = 6.0
    scale_down_window: float = 60.0

    def clamp(self, replicas: int) -> int:
        """The nearest number that is allowed."""
        return min(max(replicas, self.min_replicas), self.max_replicas)


def build_policy(scaling: Scaling) -> Policy:
    """The policy that `spec.scaling` of an endpoint asks for."""
    return Policy(
        min_replicas=1 if scaling.sleeps else scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        concurrency=scaling.target.concurrency,
        queue_delay=float(read_duration(scaling.target.queue_delay)) if scaling.target.queue_delay else 0.0,
        idle_timeout=float(read_duration(scaling.idle_timeout)),
        scale_up_window=float(read_duration(scaling.stabilization.up)),
        scale_down_window=float(read_duration(scaling.stabilization.down)),
    )


def decide(policy: Policy, samples: Sequence[Sample], replicas: int) -> int:
    """How many replicas there should be. `samples`: the last of History, oldest first; `replicas`: as asked for now.

    Fewer only when the samples reach back for the whole time in which more would have spoken against it, so nothing
    goes soon after a start of the operator. A replica that did not answer counts as one that is needed.
    """
    if not samples:
        return policy.clamp(replicas)
    now = samples[-1].at
    recent = [find_demand(policy, sample) for sample in samples if sample.at > now - policy.scale_up_window]
    demand = sum(recent) / len(recent)
    if demand > replicas * (1 + TOLERANCE):
        return policy.clamp(max(replicas, math.ceil(demand)))
    if samples[0].at > now - policy.scale_down_window:
        return policy.clamp(replicas)
    needed = math.ceil(max(_smooth(policy, samples, now - policy.scale_down_window)))
    if samples[-1].idle < policy.idle_timeout:
        needed = max(needed, 1)
    return policy.clamp(min(replicas, needed))


def find_demand(policy: Policy, sample: Sample) -> float:
    """Replicas that the requests of one moment ask for."""
    if policy.concurrency:
        return sample.load / policy.concurrency
    running = sample.load - sample.waiting
    # what one replica can run is not known before others have waited for it: without a queue, one fewer may do
    fitting = running / sample.capacity if sample.capacity else max(sample.ready - 1.0, min(running, 1.0))
    if not sample.waiting:
        return fitting
    to_take_all = fitting + sample.waiting / max(sample.capacity, 1.0)
    if not sample.ready:
        return to_take_all if sample.capacity else 1.0
    # a queue that lasts longer than it may asks for more in proportion, though not for more than take all of it at once
    wait = sample.waiting / sample.rate if sample.rate else math.inf
    return max(fitting, min(sample.ready * wait / policy.queue_delay, to_take_all))


def _smooth(policy: Policy, samples: Sequence[Sample], since: float) -> list[float]:
    """The mean demand as it was at each sample since then, with those replicas that did not answer."""
    seen = [sample for sample in samples if sample.at > since - policy.scale_up_window]
    demands = [find_demand(policy, sample) + sample.silent for sample in seen]
    means, first = list[float](), 0
    for last, sample in enumerate(seen):
        while seen[first].at <= sample.at - policy.scale_up_window:
            first += 1
        if sample.at > since:
            means.append(sum(demands[first : last + 1]) / (last - first + 1))
    return means
