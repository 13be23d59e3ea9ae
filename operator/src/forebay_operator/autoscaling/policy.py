"""Decides the number of replicas from recent samples: a pure function. `python -m bench.scaling` measures it.

Each sample becomes a demand in replicas. Replicas are added when the mean demand of the last seconds is well above
their number. Replicas are removed when fewer replicas were enough for a while, as with HPA's stabilization window
(https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/). The demand includes all requests
in a queue, although a replica takes a minute to start: one replica too many costs less than a minute of waiting
requests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from forebay_operator.autoscaling.history import Sample
from forebay_operator.spec import Scaling, read_duration

TOLERANCE = 0.3
"""Share by which the demand must exceed the number of replicas before replicas are added. A replica can run somewhat
more than its target. A replica that is added for a short peak would be removed before it has started. 0.1 costs 5 %
more on the bench's traces."""


@dataclass(frozen=True)
class Policy:
    """The scaling of an endpoint, with all times in seconds.

    Attributes:
        min_replicas, max_replicas: bounds of the number of replicas; `min_replicas` may be 0.
        concurrency: concurrent requests that a replica should have, or 0 if `queue_delay` decides.
        queue_delay: how long a request may wait for a replica.
        idle_timeout: the time without requests after which the last replica is removed.
        scale_up_window: the demand is averaged over this time.
        scale_down_window: replicas are removed when fewer replicas were enough for this time.
    """

    min_replicas: int
    max_replicas: int
    concurrency: int = 32
    queue_delay: float = 0.0
    idle_timeout: float = 300.0
    scale_up_window: float = 6.0
    scale_down_window: float = 60.0

    def clamp(self, replicas: int) -> int:
        """The nearest number within the bounds."""
        return min(max(replicas, self.min_replicas), self.max_replicas)


def build_policy(scaling: Scaling) -> Policy:
    """Build the policy from `spec.scaling` of an endpoint."""
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
    """Decide the number of replicas.

    Replicas are removed only if the samples cover the whole scale-down window. So no replica is removed soon after a
    start of the operator. A replica that did not answer is treated as needed.

    Args:
        samples: the samples of History, oldest first.
        replicas: the current spec.replicas.
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
    """The number of replicas that the requests of one sample need, as a fraction."""
    if policy.concurrency:
        return sample.load / policy.concurrency
    running = sample.load - sample.waiting
    # before requests have waited, the capacity of a replica is unknown: without a queue, one fewer may be enough
    fitting = running / sample.capacity if sample.capacity else max(sample.ready - 1.0, min(running, 1.0))
    if not sample.waiting:
        return fitting
    to_take_all = fitting + sample.waiting / max(sample.capacity, 1.0)
    if not sample.ready:
        return to_take_all if sample.capacity else 1.0
    # a queue that lasts too long needs more replicas in proportion, but only until they run all of it together
    wait = sample.waiting / sample.rate if sample.rate else math.inf
    return max(fitting, min(sample.ready * wait / policy.queue_delay, to_take_all))


def _smooth(policy: Policy, samples: Sequence[Sample], since: float) -> list[float]:
    """The mean demand at each sample after `since`. Replicas that did not answer are added."""
    seen = [sample for sample in samples if sample.at > since - policy.scale_up_window]
    demands = [find_demand(policy, sample) + sample.unresponsive for sample in seen]
    means, first = list[float](), 0
    for last, sample in enumerate(seen):
        while seen[first].at <= sample.at - policy.scale_up_window:
            first += 1
        if sample.at > since:
            means.append(sum(demands[first : last + 1]) / (last - first + 1))
    return means
