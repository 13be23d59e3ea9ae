"""Scaling by the requests that wait inside engines: what KEDA reads of them from Prometheus, and `queueDelay`.

Both tests use one endpoint, and the second changes nothing of its pod.
"""

from typing import Any

from tests.autoscalers import install_keda_crd, read_example
from tests.e2e.forebay import Clients, talking, wait_ready
from tests.e2e.prometheus import prometheus, read_as_keda
from tests.e2e.scale_to_zero import QUICK, address, make_canned, pods, replicas, settled
from tests.kubectl import Kubectl, Manifest, wait_for

NAME = "mistral"
"""As in docs/scaling.md."""

TWO_AT_ONCE = {"name": "MAX_NUM_SEQS", "value": "2"}
"""More requests than two wait inside the engine."""


def make_endpoint(kubectl: Kubectl, scaling: dict[str, Any] | None = None) -> None:
    """An endpoint that takes three seconds for an answer."""
    make_canned(kubectl, NAME, scaling, step=0.05, env=[TWO_AT_ONCE])


def example_for(kubectl: Kubectl, prometheus_address: str) -> Manifest:
    """The ScaledObject of the docs, for this namespace and this Prometheus."""
    example = read_example("kind", "ScaledObject")
    (trigger,) = example["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert 'namespace="default"' in query
    trigger["metadata"]["query"] = query.replace('namespace="default"', f'namespace="{kubectl.namespace}"')
    trigger["metadata"]["serverAddress"] = prometheus_address
    return example


def test_prometheus_gives_keda_the_running_and_waiting_requests(kubectl: Kubectl, clients: Clients) -> None:
    make_endpoint(kubectl)
    install_keda_crd(kubectl)
    wait_for(lambda: any("podIP" in each["status"] for each in pods(kubectl, NAME)), "its pod has an address")
    with prometheus(kubectl) as prometheus_address:
        wait_ready(kubectl, NAME)
        scaled = kubectl.apply(example_for(kubectl, prometheus_address), "--validate=strict")
        (trigger,) = (each["metadata"] for each in scaled["spec"]["triggers"])
        wait_for(lambda: read_as_keda(kubectl, trigger) == 0, "no request runs or waits")
        asked = address(kubectl, NAME)
        with talking(clients, "served", *asked, *asked) as counted:  # four requests at a time
            wait_for(lambda: read_as_keda(kubectl, trigger) == 4, "two requests run and two wait")
        assert (counted["failed"], counted["sent"]) == ([], sum(counted["answered"].values()))
        wait_for(lambda: read_as_keda(kubectl, trigger) == 0, "no request runs or waits any more")
    kubectl.delete("scaledobject", NAME)


def test_a_queue_in_an_engine_adds_a_replica_until_one_is_enough(kubectl: Kubectl, clients: Clients) -> None:
    target = {"queueDelay": "1s"}
    make_endpoint(kubectl, {"minReplicas": 1, "maxReplicas": 2, "target": target, "stabilization": QUICK})
    wait_ready(kubectl, NAME)
    asked = address(kubectl, NAME)
    with talking(clients, "served", *asked, *asked) as crowd:  # four requests at a time
        wait_for(lambda: replicas(kubectl, NAME) == 2, "waiting requests add a replica")
        wait_for(settled(kubectl, NAME, "2/2"), "the second pod is ready", timeout=300)
    with talking(clients, "served", *asked) as pair:  # two at a time, for which one engine has room
        wait_for(lambda: replicas(kubectl, NAME) == 1, "one replica is enough", timeout=180)
        wait_for(lambda: len(pods(kubectl, NAME)) == 1, "one pod is left", timeout=180)
    for counted in (crowd, pair):
        assert (counted["failed"], counted["sent"]) == ([], sum(counted["answered"].values()))
    kubectl.delete("iep", NAME)
