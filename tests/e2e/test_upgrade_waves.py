"""Changed chart values reach two endpoints one after the other, while clients send requests to both."""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.e2e.canned import canned
from tests.e2e.forebay import Clients, images, install_chart, read_key, talking
from tests.kubectl import Kubectl, Manifest, condition, wait_for

pytestmark = pytest.mark.installs

ENDPOINTS = ("first", "second")
TEXT = "Clients of one endpoint notice no pod replacement of the other."
SERVED = {"name": "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "value": "served"}
PACE = {"FOREBAY_CANNED_TEXT": TEXT, "FOREBAY_CANNED_STEP_SECONDS": "0.002"}
POLICIES = ("Never", "IfNotPresent")
"""This value of the chart changes the pod template, and clients do not notice the change."""

REQUESTS_PER_SECOND = 10
"""The minimum of all clients together. On an idle machine, they send twice as many."""


@pytest.fixture(scope="module")
def kubectl(cluster: Kubectl) -> Iterator[Kubectl]:
    """A namespace with two endpoints that have the image of the chart. Afterwards, the chart is installed as usual."""
    within = cluster.within(f"waves-{uuid.uuid4().hex[:8]}")
    cluster.run("create", "namespace", within.namespace)
    install(cluster)
    within.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "canned"}, "data": PACE})
    for name in ENDPOINTS:
        within.apply(canned(name, image="", env=[SERVED], envFrom=[{"configMapRef": {"name": "canned"}}]))
    yield within
    cluster.run("delete", "namespace", within.namespace, "--wait=false")
    install_chart(cluster)


def install(kubectl: Kubectl, policy: str = "IfNotPresent", *options: str, image: str = "") -> None:
    """Install the chart, or change its values."""
    vllm = image or images()["vllm-canned"]
    install_chart(kubectl, f"--set-string=server.pullPolicy={policy}", *options, vllm=vllm)


def settle(kubectl: Kubectl) -> dict[str, dict[str, str]]:
    """Install the chart with the first pull policy. Returns the pods, once both endpoints have it."""
    install(kubectl)
    for name in ENDPOINTS:
        wait_for(has_template(kubectl, name, imagePullPolicy="IfNotPresent"), f"{name} is ready", timeout=300)
    return {name: wait_for(partial(find_only_pod, kubectl, name), f"{name} has one pod") for name in ENDPOINTS}


def find_only_pod(kubectl: Kubectl, name: str) -> dict[str, str] | None:
    """The pod of the endpoint, once no other pod is left."""
    found = find_pods(kubectl, name)
    return found if len(found) == 1 else None


def has_template(kubectl: Kubectl, name: str, **fields: str) -> Callable[[], bool]:
    """Whether the endpoint is ready and up to date, with these fields of the server's container."""

    def ask() -> bool:
        found, deployment = kubectl.get("iep", name), kubectl.get("deployment", name)
        if found is None or deployment is None:
            return False
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return (
            fields.items() <= container.items()
            and condition(found, "Ready").get("reason") == "Ready"
            and condition(found, "UpToDate").get("reason") == "Current"
        )

    return ask


def is_waiting(kubectl: Kubectl, name: str, reason: str) -> Callable[[], Manifest | None]:
    """The condition UpToDate of the endpoint, once it has this reason."""

    def ask() -> Manifest | None:
        found = condition(kubectl.get("iep", name), "UpToDate")
        return found if found.get("reason") == reason else None

    return ask


def find_pods(kubectl: Kubectl, name: str) -> dict[str, str]:
    """The uids of the endpoint's pods, with the hash of their template."""
    pods = kubectl.list("pods", f"forebay.dev/endpoint={name}")
    return {pod["metadata"]["uid"]: pod["metadata"]["labels"]["pod-template-hash"] for pod in pods}


def find_replaced(kubectl: Kubectl) -> tuple[str, ...]:
    """The endpoints that have pods of two templates, at one moment: all pods come from one answer.

    Pods that have ended do not count, although they are listed until they are deleted: their GPUs are free.
    """
    pods = [
        pod for pod in kubectl.list("pods", "forebay.dev/endpoint") if pod["status"]["phase"] in ("Pending", "Running")
    ]
    labels = [pod["metadata"]["labels"] for pod in pods]
    templates = {(each["forebay.dev/endpoint"], each["pod-template-hash"]) for each in labels}
    count = Counter(name for name, _ in templates)
    return tuple(name for name in ENDPOINTS if count[name] > 1)


def addresses(kubectl: Kubectl) -> list[str]:
    """The URL and the key of each endpoint, and the expected answer."""
    words = ((f"http://{name}.{kubectl.namespace}.svc/v1", read_key(kubectl, name), TEXT) for name in ENDPOINTS)
    return [word for each in words for word in each]


def check(counted: dict[str, Any], requests: int = 1) -> None:
    """Check that no request failed, and that both endpoints had clients all the time."""
    assert counted["failed"] == []
    assert sum(counted["answered"].values()) == counted["sent"] >= requests
    assert len(counted["answered"]) == len(ENDPOINTS) * 4, "two clients with two kinds of requests"


@pytest.mark.parametrize("requests", [500, pytest.param(5000, marks=pytest.mark.soak)])
def test_a_template_change_replaces_one_endpoint_after_the_other(
    kubectl: Kubectl, clients: Clients, requests: int
) -> None:
    settle(kubectl)
    began, upgrades = time.monotonic(), 0
    in_progress: set[tuple[str, ...]] = set()
    with talking(clients, "served", *addresses(kubectl)) as counted:
        while time.monotonic() - began < requests / REQUESTS_PER_SECOND:
            policy = POLICIES[upgrades % 2]
            install(kubectl, policy)
            waits = [has_template(kubectl, name, imagePullPolicy=policy) for name in ENDPOINTS]

            def is_complete(waits: list[Callable[[], bool]] = waits) -> bool:
                in_progress.add(find_replaced(kubectl))
                return all(wait() for wait in waits)

            wait_for(is_complete, "both endpoints have the new template", timeout=300)
            upgrades += 1
    check(counted, requests)
    assert in_progress >= {("first",), ("second",)}, "both were replaced"
    assert ENDPOINTS not in in_progress, "never both at the same time"


def test_an_image_that_cannot_start_stops_at_the_first_endpoint(kubectl: Kubectl, clients: Clients) -> None:
    pods = settle(kubectl)
    generation = (kubectl.get("deployment", "second") or {})["metadata"]["generation"]
    with talking(clients, "served", *addresses(kubectl)) as counted:
        install(kubectl, image="forebay.local/missing:1")
        failed = wait_for(
            is_waiting(kubectl, "first", "UpgradeFailed"), "the first one says that it fails", timeout=180
        )
        assert "forebay.local/missing:1" in failed["message"]
        stopped = wait_for(is_waiting(kubectl, "second", "Stopped"), "the second one names the failed endpoint")
        assert f"{kubectl.namespace}/first" in stopped["message"]
        assert condition(kubectl.get("iep", "second"), "Ready")["reason"] == "Ready"
        install(kubectl)
        for name in ENDPOINTS:
            ready = has_template(kubectl, name, image=images()["vllm-canned"])
            wait_for(ready, f"{name} has the previous image", timeout=180)
    check(counted)
    wait_for(lambda: {name: find_pods(kubectl, name) for name in ENDPOINTS} == pods, "all pods are the same as before")
    assert (kubectl.get("deployment", "second") or {})["metadata"]["generation"] == generation


def test_on_change_and_manual_wait_for_a_change_and_an_approval(kubectl: Kubectl, clients: Clients) -> None:
    pods = settle(kubectl)
    kubectl.patch("iep", "second", {"spec": {"upgrade": {"mode": "Manual"}}})
    with talking(clients, "served", *addresses(kubectl)) as counted:
        install(kubectl, "Never", "--set-string=upgrades.mode=OnChange")
        wait_for(is_waiting(kubectl, "first", "OnChange"), "the first one keeps its template", timeout=120)
        wait_for(is_waiting(kubectl, "second", "ApprovalRequired"), "the second one waits for its approval")
        kubectl.run("annotate", "iep", "second", "forebay.dev/upgrade=now")
        wait_for(has_template(kubectl, "second", imagePullPolicy="Never"), "the second one is upgraded", timeout=300)
        assert find_pods(kubectl, "first") == pods["first"]
        variables = [*canned("first")["spec"]["env"], SERVED, {"name": "MAX_NUM_SEQS", "value": "8"}]
        kubectl.patch("iep", "first", {"spec": {"env": variables}})
        wait_for(has_template(kubectl, "first", imagePullPolicy="Never"), "the first one is upgraded", timeout=300)
    check(counted)
