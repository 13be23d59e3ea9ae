"""The NetworkPolicies of endpoints, operator and gateways in a cluster that enforces them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import kind
from tests.e2e.canned import canned
from tests.e2e.cluster import NAME as CLUSTER
from tests.e2e.forebay import PROGRAMS, SYSTEM, Clients, client_pod, wait_ready
from tests.e2e.policies import enforced_policies, on_node
from tests.kubectl import Kubectl, Manifest

pytestmark = pytest.mark.soak

METADATA = "169.254.169.254"
"""The address at which clouds serve a node's credentials."""


def connects(pods: Kubectl, name: str, *places: str) -> list[bool]:
    """Which places a pod reaches."""
    program = (PROGRAMS / "connect.py").read_text()
    printed = pods.run("exec", "-i", name, "--", "python3", "-", *places, stdin=program, timeout=120)
    return list(json.loads(printed))


def address(kubectl: Kubectl, selector: str) -> str:
    (pod,) = kubectl.list("pods", selector)
    return str(pod["status"]["podIP"])


def name_of(kubectl: Kubectl, selector: str) -> str:
    return str(kubectl.list("pods", selector)[0]["metadata"]["name"])


def start(clients: Clients, name: str, **labels: str) -> None:
    """A pod of the clients with these labels, that answers on port 8080."""
    manifest: Manifest = client_pod()
    manifest["metadata"] = {"name": name, "labels": {"app": name, **labels}}
    command = ["python3", "-m", "http.server", "8080"]
    manifest["spec"]["containers"][0] |= {"name": name, "command": command}
    clients.pod.apply(manifest)
    clients.pod.run("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")


@contextmanager
def metadata_service(clients: Clients) -> Iterator[str]:
    """A stand-in for a cloud's, at its address and beyond the node; gives where it is."""
    start(clients, "metadata")
    (node,) = kind.nodes(CLUSTER)
    pod = address(clients.pod, "app=metadata")
    container = "$(crictl ps --quiet --name metadata)"
    process = f"$(crictl inspect --output go-template --template '{{{{.info.pid}}}}' {container})"
    on_node(node, f"nsenter --target {process} --net ip address add {METADATA}/32 dev lo")
    on_node(node, f"ip route add {METADATA}/32 via {pod}")
    try:
        yield f"{METADATA}:8080"
    finally:
        on_node(node, f"ip route delete {METADATA}/32")
        clients.pod.delete("pod", "metadata")


def test_network_policies_allow_exactly_the_described_traffic(
    kubectl: Kubectl, clients: Clients, tmp_path: Path
) -> None:
    kubectl.apply(canned("fenced"))
    kubectl.apply(canned("unfenced", networkPolicy={"create": False}))
    for name in ("fenced", "unfenced"):
        wait_ready(kubectl, name)
    fenced, unfenced = (f"forebay.dev/endpoint={name}" for name in ("fenced", "unfenced"))
    api, ops = (f"{address(kubectl, fenced)}:{port}" for port in (8000, 8001))
    start(clients, "monitor", **{"app.kubernetes.io/name": "prometheus"})
    system = kubectl.within(SYSTEM)
    with metadata_service(clients) as metadata, enforced_policies(kubectl, tmp_path):
        assert connects(clients.pod, "client", api, ops) == [True, False]
        assert connects(clients.pod, "client", f"{address(kubectl, unfenced)}:8001") == [True], (
            "the policy and nothing else blocks it"
        )
        assert connects(clients.pod, "monitor", api, ops) == [True, True]
        for part in ("forebay-operator", "forebay-gateway"):
            pod = name_of(system, f"app.kubernetes.io/name={part}")
            assert connects(system, pod, ops) == [True], f"{part} reads the port for probes and metrics"
        service = f"unfenced.{kubectl.namespace}.svc:80"
        assert connects(kubectl, name_of(kubectl, fenced), service, metadata) == [True, False]
        assert connects(kubectl, name_of(kubectl, unfenced), service, metadata) == [True, True]
        kubectl.run("rollout", "restart", "deployment/fenced")
        kubectl.run("rollout", "status", "deployment/fenced", "--timeout=300s")
        found = wait_ready(kubectl, "fenced")
        assert found["status"]["models"], "the operator connected to the new pod"
        assert "lastStart" in found["status"], "the operator has the startup report of the pod"
    clients.pod.delete("pod", "monitor")
    kubectl.run("delete", "iep", "fenced", "unfenced")
