"""Prometheus metrics of the operator.

The API client and the workers count in them. The collector of endpoints adds its own at each scrape.
"""

from prometheus_client import Counter, Gauge, Histogram

from forebay_kube.loop_lag import LoopLag

RECONCILE_SECONDS = Histogram(
    "forebay_reconcile_duration_seconds",
    "Duration of one reconcile of one endpoint; result is done, retry or error.",
    ["result"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
API_REQUESTS = Counter(
    "forebay_api_requests",
    "Requests to the API server except watches; code is 0 if no response arrived.",
    ["verb", "kind", "code"],
)
QUEUE_DEPTH = Gauge("forebay_queue_depth", "Endpoints that wait to be reconciled.")
QUEUE_RETRIES = Gauge("forebay_queue_retries", "Endpoints that wait to be reconciled again after a failure.")
LOOP_LAG = LoopLag("forebay", interval=0.25)
LEADER = Gauge("forebay_leader", "1 on the operator that leads, 0 on the others.")


def count_request(method: str, resource: str, code: int) -> None:
    """Count a request to the API server."""
    API_REQUESTS.labels(method, resource, code).inc()
