"""Compare scaling rules on made-up load: `python -m bench.scaling`. Pure arithmetic, a minute or less.

A replica needs START_SECONDS until it answers. It then runs SLOTS requests at the same time; other requests wait in
a queue. Replicas, with starting ones, are over-provisioned beyond the number that starts every request immediately.
"""

import argparse
import heapq
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.scaling_rules import Forebay, Horizontal, Knative, Moment, Rule
from forebay_operator.autoscaling import Policy

SLOTS = 10
TARGET = 7
"""Knative's default: 70 % of the concurrency of a replica. All rules get the same."""

MAX_REPLICAS = 20
SERVICE_SECONDS = 10.0
START_SECONDS = 60


def _diurnal(at: int) -> float:
    return max(0.0, 1.9 - 2.0 * math.cos(2 * math.pi * at / 7200))


TRACES: Mapping[str, tuple[int, Callable[[int], float]]] = {
    "step": (3600, lambda at: 3.0 if 300 <= at < 2700 else 0.0),
    "ramp": (3600, lambda at: max(0.0, min((at - 120) / 300, (3000 - at) / 300, 4.0))),
    "burst": (5400, lambda at: 8.0 if at > 100 and at % 900 < 30 else 0.3),
    "diurnal": (7200, _diurnal),
    "flapping": (3600, lambda at: 3.0 if at // 45 % 2 else 0.7),
    "sparse": (7200, lambda _: 1 / 240),
}
"""Seconds of the trace, and the average number of requests in each."""


@dataclass(frozen=True)
class SimulatedRequest:
    """A request: the time of its arrival, and how long it runs."""

    at: float
    seconds: float


@dataclass
class Replica:
    """A replica that starts, runs, or finishes its requests before it ends."""

    ready_at: int
    running: int = 0
    begun: int = 0
    leaving: bool = False


@dataclass(frozen=True)
class SimulationOutcome:
    """The cost of a rule on a trace: surplus replica-seconds, request-seconds in a queue; and its decisions."""

    over: float
    queued: float
    changes: int
    longest: float
    counts: tuple[int, ...]

    @property
    def total(self) -> float:
        """The sum of the two costs: a second of a replica costs as much as a second of a request that waits."""
        return self.over + self.queued


def make_requests(trace: str, seed: int) -> list[SimulatedRequest]:
    """The requests of a trace: they arrive at random (Poisson) at its rate and run for an exponential time."""
    chance, (seconds, rate) = random.Random(seed), TRACES[trace]
    found = []
    for second in range(seconds):
        at = chance.expovariate(rate(second)) if rate(second) else 1.0
        while at < 1.0:
            found.append(SimulatedRequest(second + at, chance.expovariate(1 / SERVICE_SECONDS)))
            at += chance.expovariate(rate(second))
    return found


def find_ideal(requests: list[SimulatedRequest], seconds: int) -> list[int]:
    """The number of replicas in each second that would start every request at its arrival."""
    changes = [0] * (seconds + 1)
    for request in requests:
        changes[min(seconds, math.ceil(request.at))] += 1
        changes[min(seconds, math.ceil(request.at + request.seconds))] -= 1
    ideal, running = [], 0
    for change in changes[:seconds]:
        running += change
        ideal.append(min(MAX_REPLICAS, math.ceil(running / SLOTS)))
    return ideal


def simulate(
    requests: list[SimulatedRequest], seconds: int, rule: Rule, start_seconds: int = START_SECONDS
) -> SimulationOutcome:
    """Let a rule scale from zero through all the requests. With every rule, a request wakes a model at zero."""
    ideal, replicas, queue, coming = (
        find_ideal(requests, seconds),
        list[Replica](),
        list[SimulatedRequest](),
        iter(requests),
    )
    ends = list[tuple[float, int, Replica]]()
    following, over, queued, changes, longest, number = next(coming, None), 0, 0, 0, 0.0, 0
    counts = []
    for now in range(seconds):
        while ends and ends[0][0] <= now:
            heapq.heappop(ends)[2].running -= 1
        replicas = [each for each in replicas if each.running or not each.leaving]
        while following and following.at <= now:
            queue.append(following)
            number, following = number + 1, next(coming, None)
        ready = [each for each in replicas if not each.leaving and each.ready_at <= now]
        begun = 0
        for request in queue:
            least = min(ready, key=lambda each: each.running, default=None)
            if least is None or least.running >= SLOTS:
                break
            least.running, least.begun, begun = least.running + 1, least.begun + 1, begun + 1
            longest = max(longest, now - request.at)
            heapq.heappush(ends, (now + request.seconds, number * 1000 + begun, least))
        del queue[:begun]
        staying = [each for each in replicas if not each.leaving]
        moment = Moment(
            now, len(queue), [each.running for each in ready], [each.begun for each in ready], number, len(staying)
        )
        wanted = max(rule(moment), 1 if queue else 0)
        changes += wanted != len(staying)
        replicas += [Replica(now + start_seconds) for _ in range(wanted - len(staying))]
        idlest = sorted(staying, key=lambda each: (each.ready_at <= now, each.running))
        for each in idlest[: max(0, len(staying) - wanted)]:
            each.leaving = True
        over += max(0, len(replicas) - ideal[now])
        queued += len(queue)
        counts.append(wanted)
    return SimulationOutcome(over, queued, changes, longest, tuple(counts))


def make_rules(idle: float) -> Mapping[str, Callable[[], Rule]]:
    """Each rule, created again for each trace."""
    return {
        "Forebay": lambda: Forebay(Policy(0, MAX_REPLICAS, TARGET, idle_timeout=idle)),
        "Forebay, idle 5m": lambda: Forebay(Policy(0, MAX_REPLICAS, TARGET)),
        "Forebay, queueDelay 4s": lambda: Forebay(Policy(0, MAX_REPLICAS, 0, queue_delay=4.0, idle_timeout=idle)),
        "Knative KPA": lambda: Knative(TARGET, MAX_REPLICAS),
        "HPA": lambda: Horizontal(TARGET, MAX_REPLICAS),
    }


def main() -> None:
    """Print a table for each startup time."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="traces of each kind; the table shows their mean")
    parser.add_argument("--starts", default="20,60,120", help="comma-separated durations of a start, in seconds")
    parsed = parser.parse_args()
    traces = {name: [make_requests(name, seed) for seed in range(parsed.seeds)] for name in TRACES}
    for start in map(int, parsed.starts.split(",")):
        print(f"\nA start takes {start} s: over-provisioned replica-seconds + queued request-seconds (changes)\n")
        print(f"| rule | {' | '.join(TRACES)} | sum |\n|---|{'---|' * len(TRACES)}---|")
        for label, make in make_rules(idle=60.0).items():
            cells, total = [], 0.0
            for name, (seconds, _) in TRACES.items():
                outcomes = [simulate(requests, seconds, make(), start) for requests in traces[name]]
                over, queued, changes, both = (
                    sum(getattr(each, field) for each in outcomes) / len(outcomes)
                    for field in ("over", "queued", "changes", "total")
                )
                cells.append(f"{over:,.0f} + {queued:,.0f} ({changes:.0f})")
                total += both
            print(f"| {label} | {' | '.join(cells)} | {total:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
