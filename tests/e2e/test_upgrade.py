"""Upgrade, rollback and second upgrade between two releases, while clients send requests."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest

from tests.e2e.canned import canned
from tests.e2e.chart import CRD, uninstall, works
from tests.e2e.forebay import Clients, helm, images, install_chart, read_key, talking
from tests.e2e.release import Release
from tests.endpoints import wait_for_no_children
from tests.kubectl import Kubectl, condition, wait_for

pytestmark = pytest.mark.installs

ENDPOINTS = ("default", "pinned")
"""One endpoint has the chart's image, the other has its own image."""

TEXT = "A client that streams during an upgrade must still receive every word."
SERVED = {"name": "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "value": "served"}
CANNED = {"FOREBAY_CANNED_TEXT": TEXT, "FOREBAY_CANNED_STEP_SECONDS": "0.01"}
"""One token is one letter, so a stream takes almost a second."""


@pytest.fixture
def before(cluster: Kubectl, release: Release) -> Iterator[Kubectl]:
    """The cluster with the previous release instead of this one, and a namespace for the test."""
    if release.trouble:
        pytest.fail(release.trouble)
    uninstall(cluster)
    cluster.delete("crd", CRD)
    made = release.images
    install_chart(cluster, chart=release.chart, operator=made["operator"], vllm=made["server-canned"])
    within = cluster.within(f"upgrade-{uuid.uuid4().hex[:8]}")
    cluster.run("create", "namespace", within.namespace)
    yield within
    uninstall(cluster)
    cluster.run("delete", "namespace", within.namespace, "--wait=false")
    install_chart(cluster)


@dataclass(frozen=True)
class Running:
    """The one pod of an endpoint. `template`: the hash of the Deployment's template that it was made from."""

    uid: str
    template: str
    restarts: int


def find_running(kubectl: Kubectl, name: str, image: str) -> Running | None:
    """Return the endpoint's pod, once the endpoint has its desired state and no earlier pod is left.

    `image` is the chart's image.
    """
    found, deployment = kubectl.get("iep", name), kubectl.get("deployment", name)
    pods = kubectl.list("pods", f"forebay.dev/endpoint={name}")
    if found is None or deployment is None or len(pods) != 1:
        return None
    current = condition(found, "UpToDate").get("status") != "False" and all(
        each["status"].get("observedGeneration") == each["metadata"]["generation"] for each in (found, deployment)
    )
    if not (
        current and condition(found, "Ready").get("reason") == "Ready" and deployment["status"]["updatedReplicas"] == 1
    ):
        return None
    (pod,) = pods
    if name == "default" and pod["spec"]["containers"][0]["image"] != image:
        return None
    template = pod["metadata"]["labels"]["pod-template-hash"]
    return Running(pod["metadata"]["uid"], template, pod["status"]["containerStatuses"][0]["restartCount"])


def settle(kubectl: Kubectl, step: str, image: str) -> dict[str, Running]:
    """The endpoints' pods, once the operators of a step have read all endpoints and reached the desired state."""
    assert works(kubectl, step)
    kubectl.delete("iep", step)
    waits = {name: partial(find_running, kubectl, name, image) for name in ENDPOINTS}
    return {name: wait_for(wait, f"{name} has reached its desired state", timeout=300) for name, wait in waits.items()}


def addresses(kubectl: Kubectl) -> list[str]:
    """The requests of the clients, and the expected answer."""
    return [
        word
        for name in ENDPOINTS
        for word in (f"http://{name}.{kubectl.namespace}.svc/v1", read_key(kubectl, name), TEXT)
    ]


def test_endpoints_serve_through_upgrades_and_a_rollback(before: Kubectl, release: Release, clients: Clients) -> None:
    before.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "canned"}, "data": CANNED})
    for name, image in zip(ENDPOINTS, ("", release.images["server-canned"]), strict=True):
        before.apply(canned(name, image=image, env=[SERVED], envFrom=[{"configMapRef": {"name": "canned"}}]))
    old, new = release.images["server-canned"], images()["vllm-canned"]
    steps = [settle(before, "installed", old)]
    with talking(clients, "served", *addresses(before)) as counted:
        install_chart(before, vllm=new)
        steps.append(settle(before, "upgraded", new))
        helm(before, "rollback", "forebay", "1", "--wait", "--timeout=3m")
        steps.append(settle(before, "rolled-back", old))
        helm(before, "rollback", "forebay", "2", "--wait", "--timeout=3m")
        steps.append(settle(before, "upgraded-again", new))
    print(json.dumps([{name: vars(pod) for name, pod in step.items()} for step in steps]))
    assert counted["failed"] == []
    kinds = {
        f"{name} {client} {kind}" for name in ENDPOINTS for client in ("kept", "fresh") for kind in ("chat", "stream")
    }
    assert counted["answered"].keys() == kinds
    for name in ENDPOINTS:
        pods = [step[name] for step in steps]
        changes = sum(one.template != following.template for one, following in pairwise(pods))
        assert len({pod.uid for pod in pods}) == 1 + changes, pods
        assert count_made(before, name) == 1 + changes
        assert {pod.restarts for pod in pods} == {0}
        before.delete("iep", name)
        wait_for_no_children(before, name)


def count_made(kubectl: Kubectl, name: str) -> int:
    """How many pods were ever made for an endpoint, by its ReplicaSets' events."""
    events = (each for each in kubectl.list("events") if each["reason"] == "SuccessfulCreate")
    return sum(each["involvedObject"]["name"].startswith(f"{name}-") for each in events)
