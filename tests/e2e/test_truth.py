"""What the status says of starts and failures, on real pods."""

from collections.abc import Callable

import pytest

from cluster import kind
from tests.e2e.conftest import NAME as CLUSTER
from tests.e2e.forebay import wait_ready
from tests.e2e.test_endpoints import canned
from tests.endpoints import endpoint, reason_is
from tests.kubectl import Kubectl, Manifest, condition, wait_for


def test_the_seconds_of_a_start_are_told_when_it_is_over(kubectl: Kubectl) -> None:
    kubectl.apply(canned("steps"))
    found = wait_ready(kubectl, "steps")
    assert "startup" not in found["status"]
    assert condition(found, "ModelLoaded")["status"] == "True"

    def last_start() -> Manifest | None:
        status: Manifest = (kubectl.get("iep", "steps") or {})["status"]
        return status.get("lastStart")

    last = wait_for(last_start, "the seconds of the start are told", timeout=30)
    assert {"scheduling", "pulling", "importing", "loading"} <= set(last["seconds"])
    assert sum(last["seconds"].values()) > 0
    reasons = {each["reason"] for each in kubectl.list("events") if each["involvedObject"]["name"] == "steps"}
    assert "Ready" in reasons
    kubectl.delete("iep", "steps")


FAILURES = [
    ("oom", {"resources": {"limits": {"memory": "100Mi"}}}, "OutOfMemory", "the memory limit of 100Mi"),
    (
        "no-secret",
        {"env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "none", "key": "token"}}}]},
        "SecretMissing",
        'secret "none" not found',
    ),
    ("no-map", {"envFrom": [{"configMapRef": {"name": "none"}}]}, "ConfigMapMissing", 'configmap "none" not found'),
    ("no-claim", {"model": "pvc://none/model"}, "PVCMissing", '"none" not found'),
    ("no-class", {"cache": {"size": "1Gi", "storageClassName": "none"}}, "PVCUnbound", "PersistentVolumeClaim"),
]


@pytest.mark.parametrize(("name", "spec", "reason", "words"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_failure_is_told_with_what_to_do(
    kubectl: Kubectl, name: str, spec: Manifest, reason: str, words: str
) -> None:
    kubectl.apply(canned(name, **spec))
    found = wait_for(reason_is(kubectl, reason, name), "the endpoint says so", timeout=90)
    assert words in condition(found, "Ready")["message"]
    assert (condition(found, "Reconciling")["status"], condition(found, "Stalled")["status"]) == ("True", "False")
    events = [each for each in kubectl.list("events") if each["involvedObject"]["name"] == name]
    assert reason in {each["reason"] for each in events if each["type"] == "Warning"}
    kubectl.delete("iep", name)


def test_what_is_missing_may_come_later(kubectl: Kubectl) -> None:
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "later", "key": "token"}}}
    kubectl.apply(canned("patient", env=[token]))
    wait_for(reason_is(kubectl, "SecretMissing", "patient"), "the endpoint says so", timeout=60)
    kubectl.run("create", "secret", "generic", "later", "--from-literal=token=x")
    wait_ready(kubectl, "patient")
    kubectl.delete("iep", "patient")


def test_gpus_that_others_use_are_told_from_gpus_that_there_are_none_of(kubectl: Kubectl) -> None:
    node = kind.nodes(CLUSTER)[0]
    kind.advertise_gpus(CLUSTER, node, 1)
    kubectl.run("label", "node", node, "nvidia.com/gpu.product=Test-GPU", "nvidia.com/gpu.memory=23034")
    try:
        kubectl.apply(canned("holder", gpu={"count": 1}))
        wait_ready(kubectl, "holder")
        kubectl.apply(canned("waiting", gpu={"count": 1}))
        kubectl.apply(canned("hopeless", gpu={"count": 4}))
        found = wait_for(reason_is(kubectl, "GPUsTaken", "waiting"), "others use it", timeout=150)
        assert "1 nvidia.com/gpu (Test-GPU, 22 GiB each) on 1 node" in condition(found, "Ready")["message"]
        found = wait_for(reason_is(kubectl, "NoSuchGPU", "hopeless"), "there is no such node", timeout=60)
        assert "no node has 4 nvidia.com/gpu" in condition(found, "Ready")["message"]
    finally:
        for name in ("holder", "waiting", "hopeless"):
            kubectl.delete("iep", name)
        kubectl.run("label", "node", node, "nvidia.com/gpu.product-", "nvidia.com/gpu.memory-")
        kind.advertise_gpus(CLUSTER, node, 0)


def image_fails(kubectl: Kubectl, name: str) -> Callable[[], Manifest | None]:
    """Which of the reasons it is depends on what the machine's network answers for a registry that is not there."""
    reasons = ("ImageNotFound", "ImagePullDenied", "RegistryUnreachable", "ImagePullFailed")

    def ask() -> Manifest | None:
        found = kubectl.get("iep", name)
        return found if condition(found, "Ready").get("reason") in reasons else None

    return ask


@pytest.mark.parametrize(
    "manifest",
    [
        endpoint("no-image", image="forebay.local/none:1", gpu={"count": 0}),
        endpoint("no-model", model="oci://forebay.local/none:1", gpu={"count": 0}),
    ],
    ids=["server", "model"],
)
def test_an_image_that_is_not_there_is_named(kubectl: Kubectl, manifest: Manifest) -> None:
    name = manifest["metadata"]["name"]
    kubectl.apply(manifest)
    found = wait_for(image_fails(kubectl, name), "the endpoint says so", timeout=90)
    assert "forebay.local/none:1" in condition(found, "Ready")["message"]
    kubectl.delete("iep", name)
