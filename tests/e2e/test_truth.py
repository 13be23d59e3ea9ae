"""Starts and failures in the status, on real pods."""

from collections.abc import Iterator
from typing import Any

import pytest

from cluster import kind
from tests.e2e.canned import canned
from tests.e2e.captured_cases import night_policy
from tests.e2e.cluster import NAME as CLUSTER
from tests.e2e.conftest import REGISTRY
from tests.e2e.forebay import wait_ready
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, Manifest, condition, wait_for


@pytest.fixture(scope="module")
def failing(kubectl: Kubectl, registry: None) -> Iterator[None]:
    """All endpoints of FAILURES, which fail side by side."""
    policies = night_policy("night", {"objectSelector": {"matchLabels": {"forebay.dev/endpoint": "night"}}})
    for manifest in policies:
        kubectl.apply(manifest)
    for name, spec, *_ in FAILURES:
        kubectl.apply(canned(name, **spec))
    yield
    for manifest in policies:
        kubectl.delete(manifest["kind"], manifest["metadata"]["name"])


def test_a_misspelled_variable_is_a_warning_and_a_start_reports_its_seconds(kubectl: Kubectl) -> None:
    kubectl.apply(canned("steps", env=[{"name": "MAX_MODEL_LEM", "value": "64"}]))
    found = wait_ready(kubectl, "steps")
    assert "startup" not in found["status"]
    assert condition(found, "ModelLoaded")["status"] == "True"
    warning = condition(found, "EnvRecognized")
    assert (warning["status"], warning["reason"]) == ("False", "Doubtful")
    assert "MAX_MODEL_LEM is not known to the server; did you mean MAX_MODEL_LEN?" in warning["message"]

    def last_start() -> Manifest | None:
        status: Manifest = (kubectl.get("iep", "steps") or {})["status"]
        return status.get("lastStart")

    last = wait_for(last_start, "the status has the seconds of the start", timeout=90)
    assert {"scheduling", "pulling", "importing", "loading"} <= set(last["seconds"])
    assert sum(last["seconds"].values()) > 0
    assert last["vllmVersion"].startswith("0.32")
    assert "variables" not in last, "the operator's list is of this vLLM"
    warning = condition(kubectl.get("iep", "steps"), "EnvRecognized")
    assert "did you mean MAX_MODEL_LEN?" in warning["message"], "also after the pod has reported its variables"
    wait_for(lambda: "Ready" in reasons(kubectl, "steps"), "an event says that it is ready")
    kubectl.delete("iep", "steps")


def reasons(kubectl: Kubectl, name: str) -> set[str]:
    """The reasons of the events of an object."""
    return {each["reason"] for each in kubectl.list("events") if each["involvedObject"]["name"] == name}


def mounted(**source: Any) -> Manifest:
    """A pod that mounts a volume."""
    return {"volumes": [{"name": "extra", **source}], "volumeMounts": [{"name": "extra", "mountPath": "/extra"}]}


FAILURES: list[tuple[str, Manifest, str, str]] = [
    ("oom", {"resources": {"limits": {"memory": "100Mi"}}}, "OutOfMemory", "the memory limit of 100Mi"),
    (
        "no-secret",
        {"env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "none", "key": "token"}}}]},
        "SecretMissing",
        'secret "none" not found',
    ),
    ("no-map", {"envFrom": [{"configMapRef": {"name": "none"}}]}, "ConfigMapMissing", 'configmap "none" not found'),
    (
        "no-volume",
        {"pod": mounted(secret={"secretName": "certificates"})},
        "SecretMissing",
        'secret "certificates" not found',
    ),
    ("no-claim", {"model": "pvc://none/model"}, "PVCMissing", '"none" not found'),
    ("no-class", {"cache": {"size": "1Gi", "storageClassName": "none"}}, "PVCUnbound", "PersistentVolumeClaim"),
    ("no-server", {"image": f"{REGISTRY}/absent/server:1"}, "ImageNotFound", f"{REGISTRY}/absent/server:1: not found"),
    ("no-model", {"model": f"oci://{REGISTRY}/private/model:1"}, "ImagePullDenied", f"{REGISTRY}/private/model:1"),
    ("night", {}, "AdmissionRefused", "no models at night"),
]


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(("name", "spec", "reason", "words"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_failure_is_reported_with_a_remedy(
    kubectl: Kubectl, name: str, spec: Manifest, reason: str, words: str
) -> None:
    found = wait_for(reason_is(kubectl, reason, name), "the status of the endpoint shows it", timeout=240)
    assert words in condition(found, "Ready")["message"]
    assert (condition(found, "Reconciling")["status"], condition(found, "Stalled")["status"]) == ("True", "False")

    def is_recorded() -> bool:
        events = [each for each in kubectl.list("events") if each["involvedObject"]["name"] == name]
        return reason in {each["reason"] for each in events if each["type"] == "Warning"}

    wait_for(is_recorded, "a warning event exists")
    kubectl.delete("iep", name)


def test_missing_objects_can_be_created_later(kubectl: Kubectl) -> None:
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "later", "key": "token"}}}
    kubectl.apply(canned("patient", env=[token]))
    wait_for(reason_is(kubectl, "SecretMissing", "patient"), "the status of the endpoint shows it", timeout=180)
    kubectl.run("create", "secret", "generic", "later", "--from-literal=token=x")
    wait_ready(kubectl, "patient")
    kubectl.delete("iep", "patient")


def test_gpus_in_use_are_distinguished_from_missing_gpus(kubectl: Kubectl) -> None:
    node = kind.nodes(CLUSTER)[0]
    kind.advertise_gpus(CLUSTER, node, 1)
    kubectl.run("label", "node", node, "nvidia.com/gpu.product=Test-GPU", "nvidia.com/gpu.memory=23034")
    try:
        kubectl.apply(canned("holder", gpu={"count": 1}))
        wait_ready(kubectl, "holder")
        kubectl.apply(canned("waiting", gpu={"count": 1}))
        kubectl.apply(canned("hopeless", gpu={"count": 4}))
        taken = "1 nvidia.com/gpu (Test-GPU, 22 GiB each) on 1 node"  # once the nodes are read again, with their labels
        wait_for(reason_is(kubectl, "GPUsTaken", "waiting", taken), "other pods use the GPU", timeout=300)
        none = "no node has 4 nvidia.com/gpu"
        wait_for(reason_is(kubectl, "NoSuchGPU", "hopeless", none), "there is no such node", timeout=180)
    finally:
        for name in ("holder", "waiting", "hopeless"):
            kubectl.delete("iep", name)
        kubectl.run("label", "node", node, "nvidia.com/gpu.product-", "nvidia.com/gpu.memory-")
        kind.advertise_gpus(CLUSTER, node, 0)
