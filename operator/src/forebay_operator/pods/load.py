"""What a pod and a gateway say of their requests, read from their answers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from forebay_kube.endpoint_key import EndpointKey, parse_key
from forebay_operator.json_text import parse_json

MAX_COUNT = 2**53
"""No number that a server tells is larger."""

IN_FLIGHT = "forebay_requests_in_flight"
BEGUN = "forebay_requests_total"
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
SLEEPING = "forebay_sleeping"
"""Metrics of a server. The first two count requests over HTTP, the others what the engine makes of them: of one
request with several prompts, several. Those of vLLM have a line for each of its engines."""

MAX_METRIC_LINES = 320
"""Of these metrics: five for each of 64 engines."""

_LINE = re.compile(
    rf"^({IN_FLIGHT}|{BEGUN}|{RUNNING}|{WAITING}|{SLEEPING})(?:\{{[^}}\n]*\}})?[ ]([0-9.e+]+)(?:[ ][0-9]+)?$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class PodLoad:
    """The requests of one pod: those over HTTP that it answers, all that it ever began, and those of its engine."""

    in_flight: int
    begun: int
    running: int = 0
    waiting: int = 0
    asleep: bool = False

    @property
    def total(self) -> int:
        """Requests that the pod works at or will."""
        return max(self.in_flight, self.running + self.waiting)


@dataclass(frozen=True)
class GatewayLoad:
    """What one gateway has for one endpoint: requests that wait there, and all that ever began.

    Of jobs every gateway tells alike: `queued` wait for a pod and may start one, `jobs` are all that wait and that run.
    """

    waiting: int = 0
    begun: int = 0
    queued: int = 0
    jobs: tuple[int, int] = (0, 0)

    @property
    def waits(self) -> bool:
        """Whether anything waits for a pod."""
        return self.waiting > 0 or self.queued > 0


MAX_REREAD_ENDPOINTS = 10_000
"""Endpoints that one gateway may name: there are no more ports."""


def parse_load(text: str) -> PodLoad | None:
    """The load in a server's metrics, or None where they tell of none."""
    sums: dict[str, float] = {}
    for line in islice(_LINE.finditer(text), MAX_METRIC_LINES):
        name, value = line.groups()
        try:
            sums[name] = sums.get(name, 0.0) + float(value)
        except ValueError:
            return None
    if not all(0 <= value <= MAX_COUNT for value in sums.values()):
        return None
    numbers = {name: int(value) for name, value in sums.items()}
    if IN_FLIGHT not in numbers or BEGUN not in numbers:
        return None
    return PodLoad(
        numbers[IN_FLIGHT],
        numbers[BEGUN],
        running=numbers.get(RUNNING, 0),
        waiting=numbers.get(WAITING, 0),
        asleep=bool(numbers.get(SLEEPING)),
    )


def parse_gateway_load(text: str) -> Mapping[EndpointKey, GatewayLoad] | None:
    """What a gateway's /held tells, by endpoint; None where it is something else."""
    try:
        endpoints = parse_json(text)["endpoints"]
        return {
            parse_key(name): GatewayLoad(
                _count(one, "held"), _count(one, "begun"), _count(one, "queued"), _count_jobs(one.get("jobs") or {})
            )
            for name, one in endpoints.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_reread(text: str) -> list[EndpointKey]:
    """The endpoints whose Secret with keys a gateway would have read again; none where it tells of something else."""
    try:
        reread = parse_json(text)["reread"]
        return [parse_key(name) for name in reread if isinstance(name, str)][:MAX_REREAD_ENDPOINTS]
    except (ValueError, KeyError, TypeError):
        return []


def _count_jobs(jobs: Mapping[str, object]) -> tuple[int, int]:
    return _count(jobs, "queued"), _count(jobs, "running")


def _count(one: Mapping[str, object], name: str) -> int:
    value = one.get(name, 0)
    if not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError(name)
    return value
