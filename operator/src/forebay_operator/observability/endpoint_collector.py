"""Metrics of all endpoints and of the work queue, computed at each scrape of Prometheus. `app` registers them."""

from collections import Counter as Count
from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from forebay_kube.endpoint_key import EndpointKey
from forebay_kube.object_conditions import find_condition
from forebay_operator.apiserver.cache import Cache
from forebay_operator.metrics import QUEUE_DEPTH, QUEUE_RETRIES
from forebay_operator.spec import Manifest
from forebay_operator.work_queue import WorkQueue


class EndpointMetrics(Collector):
    """Metrics from the status of the endpoints.

    status.lastStart gives at most eight series for each endpoint. 5,000 endpoints give 40,000 series: 4 MB of text and
    0.2 s of CPU for each scrape, in addition to the time for reading the endpoints from the cache.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client.registry.Collector."""
        reasons: Count[tuple[str, str]] = Count()
        upgrades: Count[tuple[str, str]] = Count()
        starts = GaugeMetricFamily(
            "forebay_endpoint_last_start_seconds",
            "Seconds that each step of an endpoint's last start took, as status.lastStart has them.",
            labels=["namespace", "endpoint", "step"],
        )
        for (namespace, name), manifests in self._cache.endpoints.items():
            endpoints = list(manifests)  # each iteration unpacks them again
            reasons += count_by_reason(endpoints, "Ready")
            upgrades += count_by_reason(endpoints, "UpToDate")
            for step, seconds in find_start_seconds(endpoints):
                starts.add_metric((namespace, name, step), seconds)
        yield _build_family("forebay_endpoints", "Ready", "ready", reasons)
        yield _build_family("forebay_endpoint_upgrades", "UpToDate", "up_to_date", upgrades)
        yield starts


def observe(queue: WorkQueue[EndpointKey], cache: Cache) -> None:
    """Register the metrics of these parts. Called once."""
    QUEUE_DEPTH.set_function(lambda: queue.depth)
    QUEUE_RETRIES.set_function(lambda: queue.retries)
    REGISTRY.register(EndpointMetrics(cache))


def _build_family(name: str, kind: str, label: str, counts: Count[tuple[str, str]]) -> GaugeMetricFamily:
    description = f"Endpoints, by the status and the reason of {kind}."
    family = GaugeMetricFamily(name, description, labels=[label, "reason"])
    for labels, number in sorted(counts.items()):
        family.add_metric(labels, number)
    return family


def count_by_reason(endpoints: Iterable[Manifest], kind: str) -> Count[tuple[str, str]]:
    """Count the endpoints by status and reason of a condition."""
    conditions = (find_condition(endpoint.get("status"), kind) for endpoint in endpoints)
    return Count((condition["status"], condition["reason"]) for condition in conditions if condition)


def find_start_seconds(endpoints: Iterable[Manifest]) -> Iterator[tuple[str, float]]:
    """Step and seconds of each endpoint's last start, if it is known."""
    for endpoint in endpoints:
        last = (endpoint.get("status") or {}).get("lastStart") or {}
        yield from (last.get("seconds") or {}).items()
