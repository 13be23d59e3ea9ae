"""Endpoints that scale, while gateways and operators are killed and the node is drained: no request is lost."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster import kind
from tests.e2e.cluster import NAME as CLUSTER
from tests.e2e.forebay import SYSTEM, Clients, read_key, talking, wait_for_key, wait_ready
from tests.e2e.scale_to_zero import QUICK, address, bursting, gateways, held, is_idle, make_canned, pods, url
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, wait_for

pytestmark = pytest.mark.kills


def test_pending_requests_survive_killed_operators_and_a_killed_gateway(kubectl: Kubectl, clients: Clients) -> None:
    make_canned(kubectl, "held", {"idleTimeout": "10s", "stabilization": QUICK}, replicas=0)
    is_idle(kubectl, "held")
    wait_for_key(clients, url(kubectl, "held"), read_key(kubectl, "held"))
    system = kubectl.within(SYSTEM)
    # A client gives up on the address of a dead gateway after five seconds, and by default after two more tries. The
    # slice has that address until another operator leads, which takes longer than this on a busy machine.
    with bursting(clients, kubectl, "held", 20, retries="8") as counted:
        wait_for(lambda: held(kubectl) == 20, "all requests are pending", timeout=90)
        victim = gateways(kubectl)[0]["metadata"]["name"]
        system.run("delete", "pod", "--selector=app.kubernetes.io/name=forebay-operator", "--force", "--grace-period=0")
        system.run("delete", "pod", victim, "--force", "--grace-period=0")
    assert (counted["sent"], counted["failed"]) == (20, []), "the official client retries"
    is_idle(kubectl, "held")
    system.run("rollout", "status", "deployment/forebay-gateway", "--timeout=300s")
    system.run("rollout", "status", "deployment/forebay", "--timeout=300s")
    with bursting(clients, kubectl, "held", 20, retries="0") as counted:
        wait_for(lambda: held(kubectl) == 20, "all requests are pending", timeout=90)
        system.run("rollout", "restart", "deployment/forebay-gateway", "deployment/forebay")
    assert (counted["sent"], counted["failed"]) == (20, []), "a rollout of the gateways loses no request"
    kubectl.delete("iep", "held")


@contextmanager
def drained(kubectl: Kubectl, name: str) -> Iterator[None]:
    """The cluster's node is drained of an endpoint's pods, and accepts no other, while the context lasts."""
    (node,) = kind.nodes(CLUSTER)
    options = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s"]
    try:
        print(kubectl.run("drain", node, f"--pod-selector=forebay.dev/endpoint={name}", *options))
        yield
    finally:
        kubectl.run("uncordon", node)


def test_a_rollout_and_a_drained_node_under_load_lose_no_request(kubectl: Kubectl, clients: Clients) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 2, "target": {"concurrency": 8}, "stabilization": QUICK}
    make_canned(kubectl, "rolling", scaling)
    wait_ready(kubectl, "rolling")
    own, key, text = address(kubectl, "rolling")
    shared = f"http://forebay-gateway.{SYSTEM}.svc/v2/{kubectl.namespace}.rolling/openai/v1"
    with talking(clients, "served", shared, key, text, own, key, text) as counted:
        kubectl.run("rollout", "restart", "deployment/rolling")
        kubectl.run("rollout", "status", "deployment/rolling", "--timeout=300s")
        before = {each["metadata"]["uid"] for each in pods(kubectl, "rolling")}
        with drained(kubectl, "rolling"):
            wait_for(lambda: held(kubectl) == 4, "the request of each client is pending, streamed and not", timeout=90)
            wait_for(reason_is(kubectl, "Unschedulable", "rolling"), "no node accepts a pod", timeout=90)
        wait_ready(kubectl, "rolling")
        wait_for(lambda: held(kubectl) == 0, "pending requests reach the new pod", timeout=90)
        assert before.isdisjoint(each["metadata"]["uid"] for each in pods(kubectl, "rolling"))
    answered = sum(counted["answered"].values())
    assert (counted["failed"], counted["sent"]) == ([], answered)
    assert answered > 16
    assert len(counted["answered"]) == 8, "two ways, two clients, two kinds"
    kubectl.delete("iep", "rolling")
