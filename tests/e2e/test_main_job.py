"""The main job with the real model: apply, wait, and use it with the official clients. Then scale, break, delete."""

import pytest

from cluster.pins import ROOT
from tests.e2e.forebay import PROGRAMS, Clients, port_forward, read_check, read_key, wait_ready
from tests.endpoints import wait_for_no_children
from tests.kubectl import Kubectl, condition, wait_for

NAME = "smollm2"


@pytest.fixture(scope="module")
def endpoint(kubectl: Kubectl) -> Kubectl:
    kubectl.run("apply", "-f", str(ROOT / "examples/smollm2.yaml"))
    found = wait_ready(kubectl, NAME)
    assert found["status"]["url"] == f"http://{NAME}.{kubectl.namespace}.svc/v2/{NAME}/openai/v1"
    assert found["status"]["models"] == [NAME]
    assert (condition(found, "Ready")["reason"], condition(found, "EnvRecognized")["status"]) == ("Ready", "True")
    return kubectl


@pytest.mark.parametrize("path", ["/v1", f"/v2/{NAME}/openai/v1"])
@pytest.mark.parametrize("place", ["inside", "port-forward"])
@pytest.mark.parametrize("program", ["check.py", "check.mjs"], ids=["python", "javascript"])
def test_the_official_clients_work(endpoint: Kubectl, clients: Clients, program: str, place: str, path: str) -> None:
    key = read_key(endpoint, NAME)
    if place == "inside":
        url = f"http://{NAME}.{endpoint.namespace}.svc{path}"
        printed = clients.run_inside(PROGRAMS / program, url, key, NAME)
    else:
        with port_forward(endpoint, NAME) as port:
            printed = clients.run_here(PROGRAMS / program, f"http://127.0.0.1:{port}{path}", key, NAME)
    found = read_check(printed)
    for kind in ("chat", "chat streamed", "completion", "completion streamed"):
        assert "Paris" in found[kind], found
    assert found["chat"] == found["chat streamed"]
    assert found["models"] == [NAME]
    assert found["wrong key"] == "AuthenticationError 401"
    assert found["wrong model"] == "NotFoundError 404"


@pytest.mark.parametrize("program", ["ask.py", "ask.mjs"])
def test_the_example_clients_run_unchanged(endpoint: Kubectl, clients: Clients, program: str) -> None:
    found = endpoint.get("iep", NAME)
    assert found is not None
    env = {"OPENAI_BASE_URL": found["status"]["url"], "OPENAI_API_KEY": read_key(endpoint, NAME)}
    answer = clients.run_inside(ROOT / "examples" / program, NAME, "What is the capital of France?", env=env)
    assert "Paris" in answer


def ready_addresses(kubectl: Kubectl) -> list[str]:
    slices = kubectl.list("endpointslices", f"kubernetes.io/service-name={NAME}")
    found = [endpoint for each in slices for endpoint in each.get("endpoints") or []]
    return [endpoint["addresses"][0] for endpoint in found if endpoint["conditions"].get("ready")]


def test_kubectl_scale_gives_two_pods_behind_the_service(endpoint: Kubectl) -> None:
    endpoint.run("scale", f"iep/{NAME}", "--replicas=2")
    wait_for(lambda: len(ready_addresses(endpoint)) == 2, "two pods are behind the Service", timeout=300)

    def settled() -> bool:
        found = endpoint.get("iep", NAME)
        assert found is not None
        return bool(found["status"]["ready"] == "2/2") and condition(found, "Ready")["reason"] == "Ready"

    wait_for(settled, "the status shows it", timeout=30)
    endpoint.run("scale", f"iep/{NAME}", "--replicas=1")
    wait_for(lambda: len(ready_addresses(endpoint)) == 1, "one pod is behind the Service", timeout=180)


def test_an_edited_service_is_repaired_and_serves(endpoint: Kubectl, clients: Clients) -> None:
    before = endpoint.get("service", NAME)
    assert before is not None
    endpoint.patch("service", NAME, {"spec": {"selector": {"forebay.dev/endpoint": "nobody"}}})
    wait_for(lambda: (endpoint.get("service", NAME) or {}).get("spec") == before["spec"], "the Service is repaired")
    wait_for(lambda: len(ready_addresses(endpoint)) == 1, "the pod is behind the Service again", timeout=60)
    url = f"http://{NAME}.{endpoint.namespace}.svc/v1"
    assert "Paris" in clients.run_inside(PROGRAMS / "check.py", url, read_key(endpoint, NAME), NAME)


def test_a_deleted_deployment_is_restored_and_serves_again(endpoint: Kubectl) -> None:
    before = endpoint.get("deployment", NAME)
    assert before is not None
    endpoint.run("delete", "deployment", NAME)

    def back() -> bool:
        found = endpoint.get("deployment", NAME)
        return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

    wait_for(back, "the Deployment is restored", timeout=30)
    wait_for(
        lambda: condition(endpoint.get("iep", NAME), "Ready")["status"] == "False", "the status shows it", timeout=30
    )
    wait_ready(endpoint, NAME)


def test_deleting_the_endpoint_removes_every_child(endpoint: Kubectl) -> None:
    endpoint.delete("iep", NAME)
    wait_for_no_children(endpoint, NAME)
