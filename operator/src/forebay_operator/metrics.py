"""What Prometheus is told of the operator."""

from collections import Counter as Count
from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from forebay_operator.cache import Cache, Key
from forebay_operator.queue import WorkQueue
from forebay_operator.types import Manifest

RECONCILE_SECONDS = Histogram(
    "forebay_reconcile_duration_seconds",
    "Time that one reconcile of one endpoint took; result is done, retry or error.",
    ["result"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
API_REQUESTS = Counter(
    "forebay_api_requests",
    "Requests to the API server besides watches; code is 0 where none came back.",
    ["verb", "kind", "code"],
)
QUEUE_DEPTH = Gauge("forebay_queue_depth", "Endpoints that wait to be reconciled.")
QUEUE_RETRIES = Gauge("forebay_queue_retries", "Endpoints that wait to be reconciled again after a failure.")
LEADER = Gauge("forebay_leader", "1 on the operator that works, 0 on those that stand by.")


class EndpointsByReason(Collector):
    """Counts endpoints by the reason of their Ready condition, when Prometheus asks."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client.registry.Collector."""
        description = "Endpoints, by the status and the reason of Ready."
        family = GaugeMetricFamily("forebay_endpoints", description, labels=["ready", "reason"])
        found = (endpoint for index in self._cache.endpoints.values() for endpoint in index)
        for labels, number in sorted(count_by_reason(found).items()):
            family.add_metric(labels, number)
        yield family


def observe(queue: WorkQueue[Key], cache: Cache) -> None:
    """Take gauges from the working parts. Called once."""
    QUEUE_DEPTH.set_function(lambda: queue.depth)
    QUEUE_RETRIES.set_function(lambda: queue.retries)
    REGISTRY.register(EndpointsByReason(cache))


def count_by_reason(endpoints: Iterable[Manifest]) -> Count[tuple[str, str]]:
    """How many endpoints have each status and reason of Ready."""
    conditions = (
        condition
        for endpoint in endpoints
        for condition in (endpoint.get("status") or {}).get("conditions") or ()
        if condition["type"] == "Ready"
    )
    return Count((condition["status"], condition["reason"]) for condition in conditions)
