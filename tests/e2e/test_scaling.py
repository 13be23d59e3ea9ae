"""Endpoints that scale, on kind, with the chart's gateways: to zero and back, up and down, and while parts are killed.

The clients run in a pod of the cluster and call the endpoint's own Service. Each test prints what was sent, answered
and failed.
"""

import json
from pathlib import Path

import pytest
import yaml

from cluster.pins import ROOT
from tests.e2e.canned import SMALL, canned
from tests.e2e.forebay import PROGRAMS, SYSTEM, Clients, port_forward, talking, wait_for_key, wait_ready
from tests.e2e.metrics import metrics_server
from tests.e2e.scale_to_zero import (
    QUICK,
    SERVED,
    address,
    burst,
    bursting,
    is_idle,
    make_canned,
    pods,
    replicas,
    settled,
)
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, wait_for


def cycle(kubectl: Kubectl, name: str) -> None:
    """To zero, and back by the next request."""
    kubectl.run("scale", "iep", name, "--replicas=0")
    wait_for(lambda: replicas(kubectl, name) == 1, "a request starts it again", timeout=180)
    wait_ready(kubectl, name)


def test_the_real_model_starts_on_a_request_and_scales_to_zero_again(kubectl: Kubectl, clients: Clients) -> None:
    manifest = yaml.safe_load((ROOT / "examples/smollm2.yaml").read_text())
    manifest["spec"] |= {"replicas": 0, "scaling": {"idleTimeout": "10s", "stabilization": QUICK}}
    kubectl.apply(manifest)
    is_idle(kubectl, "smollm2")
    base, key, _ = address(kubectl, "smollm2")
    wait_for_key(clients, base, key)
    env = {"OPENAI_BASE_URL": base, "OPENAI_API_KEY": key}
    answer = clients.run_inside(ROOT / "examples/ask.py", "smollm2", "What is the capital of France?", env=env)
    assert "Paris" in answer
    with port_forward(kubectl.within(SYSTEM), "forebay-gateway") as port:
        outside = f"http://127.0.0.1:{port}/v2/{kubectl.namespace}.smollm2/openai/v1"
        printed = clients.run_here(PROGRAMS / "burst.py", outside, key, "smollm2", "2", "")
    assert json.loads(printed)["answered"] == 2
    is_idle(kubectl, "smollm2")
    kubectl.delete("iep", "smollm2")


def test_a_burst_scales_up_and_back_and_every_request_is_answered(kubectl: Kubectl, clients: Clients) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 3, "target": {"concurrency": 4}, "stabilization": QUICK}
    make_canned(kubectl, "bursting", scaling, step=0.15)  # ten seconds an answer, longer than to decide takes
    wait_ready(kubectl, "bursting")
    with bursting(clients, kubectl, "bursting", 12) as counted:
        wait_for(lambda: replicas(kubectl, "bursting") == 3, "three replicas for twelve requests", timeout=90)
    assert (counted["sent"], counted["failed"]) == (12, [])
    with talking(clients, "served", *address(kubectl, "bursting")) as counted:  # one request at a time and client
        wait_for(lambda: replicas(kubectl, "bursting") == 1, "one replica is enough", timeout=240)
        wait_for(lambda: len(pods(kubectl, "bursting")) == 1, "one pod is left", timeout=180)
    assert counted["failed"] == []
    assert counted["answered"]
    kubectl.delete("iep", "bursting")


def test_an_idle_engine_sleeps_and_a_request_wakes_it(kubectl: Kubectl, clients: Clients) -> None:
    """On a CPU sleep stops the engine and gives no memory back; all else is as on a GPU."""
    make_canned(kubectl, "sleepy", {"idle": "Sleep", "idleTimeout": "4s", "stabilization": QUICK})
    wait_ready(kubectl, "sleepy")
    (pod,) = pods(kubectl, "sleepy")
    for _ in range(2):
        wait_for(reason_is(kubectl, "Idle", "sleepy"), "the engine sleeps", timeout=180)
        counted = burst(clients, kubectl, "sleepy", 6, retries="0")
        assert (counted["sent"], counted["failed"]) == (6, [])
    assert [each["metadata"]["uid"] for each in pods(kubectl, "sleepy")] == [pod["metadata"]["uid"]]
    kubectl.delete("iep", "sleepy")


def usage(kubectl: Kubectl, name: str) -> int | None:
    """The CPU of an endpoint's pods in percent of their requests, if its HPA has it."""
    current_metrics = (kubectl.get("hpa", name) or {}).get("status", {}).get("currentMetrics") or [{}]
    found = current_metrics[0].get("resource", {}).get("current", {}).get("averageUtilization")
    return None if found is None else int(found)


def writers(kubectl: Kubectl, name: str) -> set[str]:
    """The field managers of the endpoint's current replicas."""
    printed = kubectl.run("get", "iep", name, "-o", "json", "--show-managed-fields")
    fields = json.loads(printed)["metadata"]["managedFields"]
    return {each["manager"] for each in fields if "f:replicas" in each["fieldsV1"].get("f:spec", {})}


def test_an_hpa_scales_an_endpoint_and_the_operator_keeps_its_replicas(
    kubectl: Kubectl, clients: Clients, tmp_path: Path
) -> None:
    # With a number from the beginning: over /scale the API server records no owner of a number without an owner.
    kubectl.apply(canned("by-hpa", replicas=1, env=[SERVED], resources={**SMALL, "requests": {"cpu": "100m"}}))
    target = {"apiVersion": "forebay.dev/v1alpha1", "kind": "InferenceEndpoint", "name": "by-hpa"}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 25}}}
    hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "by-hpa"}}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2, "metrics": [cpu]}
    kubectl.apply({**hpa, "spec": spec})
    with metrics_server(kubectl, tmp_path):
        wait_ready(kubectl, "by-hpa")
        at_rest = wait_for(lambda: usage(kubectl, "by-hpa"), "the HPA has the usage of the pod", timeout=300)
        assert (at_rest < 25, replicas(kubectl, "by-hpa")) == (True, 1), f"{at_rest} %"
        base, key, _ = address(kubectl, "by-hpa")
        with talking(clients, "served", base, key, "This is a canned answer.") as counted:
            wait_for(lambda: replicas(kubectl, "by-hpa") == 2, "the HPA raises the replicas", timeout=300)
            under_load = usage(kubectl, "by-hpa")
            wait_for(settled(kubectl, "by-hpa", "2/2"), "the second pod is ready", timeout=300)
            assert writers(kubectl, "by-hpa") == {"kube-controller-manager"}
            kubectl.patch("hpa", "by-hpa", {"spec": {"maxReplicas": 1}})
            wait_for(lambda: replicas(kubectl, "by-hpa") == 1, "the HPA lowers the replicas", timeout=180)
            wait_for(settled(kubectl, "by-hpa", "1/1"), "one pod is left", timeout=180)
    print(f"by-hpa: {at_rest} % at rest, {under_load} % under load")
    assert (counted["failed"], counted["sent"]) == ([], sum(counted["answered"].values()))
    assert writers(kubectl, "by-hpa") == {"kube-controller-manager"}
    kubectl.run("delete", "hpa,iep", "by-hpa")


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_clients_lose_no_request_while_an_endpoint_scales_to_zero_and_back(
    kubectl: Kubectl, clients: Clients, times: int
) -> None:
    make_canned(kubectl, "cycling", {"idleTimeout": "10s", "stabilization": QUICK})
    wait_ready(kubectl, "cycling")
    with talking(clients, "served", *address(kubectl, "cycling")) as counted:
        for _ in range(times):
            cycle(kubectl, "cycling")
    assert counted["failed"] == []
    assert counted["answered"].keys() == {
        f"cycling {client} {kind}" for client in ("kept", "fresh") for kind in ("chat", "stream")
    }
    kubectl.delete("iep", "cycling")
