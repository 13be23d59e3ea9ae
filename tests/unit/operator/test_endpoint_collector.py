"""The metrics of the endpoints come from their status, so a restart of the operator changes nothing."""

from prometheus_client import CollectorRegistry, generate_latest

from forebay_operator.apiserver.cache import Cache
from forebay_operator.observability.endpoint_collector import EndpointMetrics
from tests.kubectl import Manifest


def endpoint(reason: str, **seconds: int) -> Manifest:
    conditions = [
        {"type": "Ready", "status": str(reason == "Ready"), "reason": reason},
        {"type": "UpToDate", "status": "False", "reason": "Stopped"},
    ]
    last = {"lastStart": {"pod": "one-abc", "seconds": seconds}} if seconds else {}
    return {"status": {"conditions": conditions, **last}}


ENDPOINTS = {
    ("team", "one"): [endpoint("Ready", pulling=40, loading=7)],
    ("team", "two"): [endpoint("Ready", loading=9)],
    ("other", "one"): [endpoint("Scheduling")],
    ("other", "new"): [{"metadata": {}}],
}


def test_metrics_show_the_state_in_the_endpoint_status() -> None:
    registry = CollectorRegistry()
    registry.register(EndpointMetrics(Cache(ENDPOINTS, {}, {}, {})))
    text = generate_latest(registry).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'forebay_endpoints{ready="False",reason="Scheduling"} 1.0',
        'forebay_endpoints{ready="True",reason="Ready"} 2.0',
        'forebay_endpoint_upgrades{reason="Stopped",up_to_date="False"} 3.0',
        'forebay_endpoint_last_start_seconds{endpoint="one",namespace="team",step="pulling"} 40.0',
        'forebay_endpoint_last_start_seconds{endpoint="one",namespace="team",step="loading"} 7.0',
        'forebay_endpoint_last_start_seconds{endpoint="two",namespace="team",step="loading"} 9.0',
    ]
