"""Endpoints that scale, on kind, with the chart's gateways: to zero and back, up and down, and while parts are killed.

The clients run in a pod of the cluster and call the endpoint's own Service. Each test prints what was sent, answered
and failed.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.pins import ROOT
from tests.e2e.forebay import PROGRAMS, SYSTEM, Clients, port_forward, read_key, talking, wait_for_key, wait_ready
from tests.e2e.metrics import metrics_server
from tests.e2e.test_endpoints import SMALL, canned
from tests.e2e.test_rollouts import settled
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, Manifest, wait_for

TEXT = "The water waits above the gate until the turbine below it turns."
STEP = 0.03
"""Seconds of a step. One token is one letter, so an answer takes two seconds."""

SERVED = {"name": "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "value": "served"}
QUICK = {"up": "2s", "down": "5s"}


def url(kubectl: Kubectl, name: str) -> str:
    """The endpoint's base URL in the cluster."""
    return f"http://{name}.{kubectl.namespace}.svc/v2/{name}/openai/v1"


def address(kubectl: Kubectl, name: str) -> tuple[str, str, str]:
    """What clients are to ask, and the answer that they are to get."""
    return url(kubectl, name), read_key(kubectl, name), TEXT


def burst(
    clients: Clients, kubectl: Kubectl, name: str, count: int, *, retries: str = "", text: str = TEXT
) -> Manifest:
    """Send so many requests at once; what became of them."""
    base, key, _ = address(kubectl, name)
    arguments = base, key, "served", str(count), text, *([retries] if retries else [])
    counted: Manifest = json.loads(clients.run_inside(PROGRAMS / "burst.py", *arguments))
    print(f"{name}: {json.dumps(counted)}")
    return counted


@contextmanager
def bursting(clients: Clients, kubectl: Kubectl, name: str, count: int, **options: str) -> Iterator[Manifest]:
    """The same beside the context; the result is in the dict after it."""
    counted: Manifest = {}
    thread = threading.Thread(target=lambda: counted.update(burst(clients, kubectl, name, count, **options)))
    thread.start()
    yield counted
    thread.join(240)
    assert not thread.is_alive(), "the requests have not ended"


def pods(kubectl: Kubectl, name: str) -> list[Manifest]:
    return kubectl.list("pods", f"forebay.dev/endpoint={name}")


def replicas(kubectl: Kubectl, name: str) -> int:
    return int((kubectl.get("iep", name) or {})["spec"]["replicas"])


def is_idle(kubectl: Kubectl, name: str) -> None:
    """Wait until nothing is left of the endpoint's pods and the gateways stand in."""
    wait_for(reason_is(kubectl, "Idle", name), f"{name} is idle", timeout=300)
    wait_for(lambda: pods(kubectl, name) == [], f"{name} has no pods", timeout=180)


def held(kubectl: Kubectl) -> int:
    """Requests that the gateways hold, all together."""
    system = kubectl.within(SYSTEM)
    names = [each["metadata"]["name"] for each in gateways(kubectl)]
    told = [
        json.loads(system.run("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}:8001/proxy/held"))
        for name in names
    ]
    return sum(int(one["held"]) for each in told for one in each["endpoints"].values())


def gateways(kubectl: Kubectl) -> list[Manifest]:
    found = kubectl.within(SYSTEM).list("pods", "app.kubernetes.io/component=gateway")
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def make_canned(
    kubectl: Kubectl, name: str, scaling: Mapping[str, Any] | None, step: float = STEP, **spec: Any
) -> None:
    """An endpoint of the canned server, of which each token takes `step` seconds, with or without `scaling`."""
    pace = {"FOREBAY_CANNED_TEXT": TEXT, "FOREBAY_CANNED_STEP_SECONDS": str(step)}
    env = [SERVED, *spec.pop("env", [])]
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": pace})
    scales = {} if scaling is None else {"scaling": scaling}
    kubectl.apply(canned(name, env=env, envFrom=[{"configMapRef": {"name": name}}], **scales, **spec))


def cycle(kubectl: Kubectl, name: str) -> None:
    """To zero, and back by the next request."""
    kubectl.run("scale", "iep", name, "--replicas=0")
    wait_for(lambda: replicas(kubectl, name) == 1, "a request starts it again", timeout=180)
    wait_ready(kubectl, name)


def test_the_real_model_starts_at_a_request_and_goes_to_zero_again(kubectl: Kubectl, clients: Clients) -> None:
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


def test_an_engine_sleeps_instead_of_ending_and_a_request_wakes_it(kubectl: Kubectl, clients: Clients) -> None:
    """On a CPU sleep stops the engine and gives no memory back; all else is as on a GPU."""
    make_canned(kubectl, "sleepy", {"idle": "Sleep", "idleTimeout": "4s", "stabilization": QUICK})
    wait_ready(kubectl, "sleepy")
    (pod,) = pods(kubectl, "sleepy")
    for _ in range(2):
        wait_for(reason_is(kubectl, "Idle", "sleepy"), "it sleeps", timeout=180)
        counted = burst(clients, kubectl, "sleepy", 6, retries="0")
        assert (counted["sent"], counted["failed"]) == (6, [])
    assert [each["metadata"]["uid"] for each in pods(kubectl, "sleepy")] == [pod["metadata"]["uid"]]
    kubectl.delete("iep", "sleepy")


def usage(kubectl: Kubectl, name: str) -> int | None:
    """The CPU of an endpoint's pods in percent of what they request, where its HPA knows it."""
    told = (kubectl.get("hpa", name) or {}).get("status", {}).get("currentMetrics") or [{}]
    found = told[0].get("resource", {}).get("current", {}).get("averageUtilization")
    return None if found is None else int(found)


def writers(kubectl: Kubectl, name: str) -> set[str]:
    """Who wrote the endpoint's replicas as they are, as the API server keeps it."""
    printed = kubectl.run("get", "iep", name, "-o", "json", "--show-managed-fields")
    fields = json.loads(printed)["metadata"]["managedFields"]
    return {each["manager"] for each in fields if "f:replicas" in each["fieldsV1"].get("f:spec", {})}


def test_an_hpa_scales_an_endpoint_by_its_cpu_and_the_operator_leaves_the_replicas_to_it(
    kubectl: Kubectl, clients: Clients, tmp_path: Path
) -> None:
    kubectl.apply(canned("by-hpa", env=[SERVED], resources={**SMALL, "requests": {"cpu": "100m"}}))
    target = {"apiVersion": "forebay.dev/v1alpha1", "kind": "InferenceEndpoint", "name": "by-hpa"}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 25}}}
    hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "by-hpa"}}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 2, "metrics": [cpu]}
    kubectl.apply({**hpa, "spec": spec})
    with metrics_server(kubectl, tmp_path):
        wait_ready(kubectl, "by-hpa")
        at_rest = wait_for(lambda: usage(kubectl, "by-hpa"), "the HPA knows what the pod uses", timeout=300)
        assert (at_rest < 25, replicas(kubectl, "by-hpa")) == (True, 1), f"{at_rest} %"
        base, key, _ = address(kubectl, "by-hpa")
        with talking(clients, "served", base, key, "This is a canned answer.") as counted:
            wait_for(lambda: replicas(kubectl, "by-hpa") == 2, "the HPA raises it", timeout=300)
            under_load = usage(kubectl, "by-hpa")
            wait_for(settled(kubectl, "by-hpa", "2/2"), "the second is ready", timeout=300)
            assert writers(kubectl, "by-hpa") == {"kube-controller-manager"}
            kubectl.patch("hpa", "by-hpa", {"spec": {"maxReplicas": 1}})
            wait_for(lambda: replicas(kubectl, "by-hpa") == 1, "the HPA lowers it", timeout=180)
            wait_for(settled(kubectl, "by-hpa", "1/1"), "one is left", timeout=180)
    print(f"by-hpa: {at_rest} % at rest, {under_load} % under load")
    assert (counted["failed"], counted["sent"]) == ([], sum(counted["answered"].values()))
    assert writers(kubectl, "by-hpa") == {"kube-controller-manager"}
    kubectl.run("delete", "hpa,iep", "by-hpa")


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_an_endpoint_goes_to_zero_and_back_and_clients_that_go_on_asking_lose_nothing(
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
