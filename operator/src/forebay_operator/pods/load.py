"""Parses the loads that pods and gateways report. Pure; the autoscaler and `gateways` call it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from forebay_kube.endpoint_key import EndpointKey, parse_key
from forebay_operator.json_text import parse_json

MAX_COUNT = 2**53
"""The largest number that a server may report."""

IN_FLIGHT = "forebay_requests_in_flight"
REQUESTS_TOTAL = "forebay_requests_total"
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
SLEEPING = "forebay_sleeping"
"""Metrics of a server. The first two count requests over HTTP. The next two count the engine's requests, with a line
for each engine. One HTTP request with several prompts is several requests of the engine."""

MAX_METRIC_LINES = 320
"""The most lines that are read of these metrics: five for each of 64 engines."""

_LINE = re.compile(
    rf"^({IN_FLIGHT}|{REQUESTS_TOTAL}|{RUNNING}|{WAITING}|{SLEEPING})(?:\{{[^}}\n]*\}})?[ ]([0-9.e+]+)(?:[ ][0-9]+)?$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class PodLoad:
    """The requests of one pod: HTTP requests in flight, all HTTP requests begun since the pod's start, and the engine's
    requests."""

    in_flight: int
    begun: int
    running: int = 0
    waiting: int = 0
    asleep: bool = False

    @property
    def total(self) -> int:
        """The number of requests that run or wait in the pod."""
        return max(self.in_flight, self.running + self.waiting)


@dataclass(frozen=True)
class GatewayLoad:
    """The requests of one endpoint at one gateway: waiting requests, and all requests begun since the gateway's start.

    Every gateway reports the same job counts. `queued` are jobs that wait for a pod and may start one; `jobs` are all
    queued jobs and all running ones.
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
"""The most endpoints whose Secrets one gateway may ask the operator to read again. It is the number of ports."""


def parse_load(text: str) -> PodLoad | None:
    """Parse a server's metrics. Returns None if they have no load."""
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
    if IN_FLIGHT not in numbers or REQUESTS_TOTAL not in numbers:
        return None
    return PodLoad(
        numbers[IN_FLIGHT],
        numbers[REQUESTS_TOTAL],
        running=numbers.get(RUNNING, 0),
        waiting=numbers.get(WAITING, 0),
        asleep=bool(numbers.get(SLEEPING)),
    )


def parse_gateway_load(text: str) -> Mapping[EndpointKey, GatewayLoad] | None:
    """Parse the loads in a gateway's /held, by endpoint. Returns None if the text has another form."""
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
    """Parse the endpoints whose key Secret should be read again, as a gateway asks. Returns [] if the text has another
    form."""
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
