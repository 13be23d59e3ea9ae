"""Endpoints of every kind: on GPUs, from a hub, misspelt, wrong. The canned server stands in where no answer counts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import kind
from cluster.pins import ROOT
from tests.e2e.conftest import NAME as CLUSTER
from tests.e2e.forebay import PROGRAMS, Clients, images, read_check, read_key, wait_ready
from tests.endpoints import endpoint, reason_is
from tests.kubectl import Kubectl, Manifest, condition, wait_for

MODEL_IMAGE = "forebay.local/smollm2-135m-instruct:1"
CANNED_MODEL = "/opt/canned/model"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
TOKEN = "hf_of_the_test"
SMALL = {"requests": {"cpu": "50m"}, "limits": {"memory": "3Gi"}}
KV_CACHE = {"name": "KV_CACHE_MEMORY_BYTES", "value": "256M"}


def canned(name: str, **spec: Any) -> Manifest:
    """An endpoint whose server is real but for the model's forward pass."""
    env = spec.pop("env", [])
    base = {
        "image": images()["server-canned"],
        "model": CANNED_MODEL,
        "gpu": {"count": 0},
        "resources": SMALL,
    }
    return endpoint(name, **{**base, **spec}, env=[KV_CACHE, *env])


class TestGpus:
    def test_an_endpoint_waits_for_a_gpu_in_the_schedulers_words_and_runs_when_there_is_one(
        self, kubectl: Kubectl
    ) -> None:
        kubectl.apply(canned("gpu", gpu={"count": 1}))
        found = wait_for(reason_is(kubectl, "NoSuchGPU", "gpu"), "the endpoint says so", timeout=60)
        assert "Insufficient nvidia.com/gpu" in condition(found, "Ready")["message"]
        assert (condition(found, "Reconciling")["status"], condition(found, "Stalled")["status"]) == ("True", "False")
        node = kind.nodes(CLUSTER)[0]
        kind.advertise_gpus(CLUSTER, node, 1)
        try:
            wait_ready(kubectl, "gpu")
            (pod,) = kubectl.list("pods", "forebay.dev/endpoint=gpu")
            assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
            assert pod["spec"]["nodeName"] == node
        finally:
            kubectl.delete("iep", "gpu")
            kind.advertise_gpus(CLUSTER, node, 0)

    def test_a_corrected_endpoint_gets_the_gpu_that_its_failing_pod_held(self, kubectl: Kubectl) -> None:
        node = kind.nodes(CLUSTER)[0]
        kind.advertise_gpus(CLUSTER, node, 1)
        wrong, right = {"name": "MAX_MODEL_LEN", "value": "many"}, {"name": "MAX_MODEL_LEN", "value": "512"}
        try:
            kubectl.apply(canned("mended", gpu={"count": 1}, env=[wrong]))
            wait_for(reason_is(kubectl, "InvalidConfiguration", "mended"), "the endpoint says so", timeout=60)
            kubectl.apply(canned("mended", gpu={"count": 1}, env=[right]))

            def mended() -> bool:
                found = kubectl.get("iep", "mended")
                assert found
                current = found["status"]["observedGeneration"] == found["metadata"]["generation"]
                assert not (current and condition(found, "Stalled")["status"] == "True"), "the old pod still speaks"
                return bool(condition(found, "Ready")["status"] == "True")

            wait_for(mended, "the corrected endpoint is ready", timeout=90)
        finally:
            kubectl.delete("iep", "mended")
            kind.advertise_gpus(CLUSTER, node, 0)

    def test_the_seeds_own_case_passes_a_dry_run(self, kubectl: Kubectl) -> None:
        printed = kubectl.run("apply", "--dry-run=server", "-f", str(ROOT / "examples/mistral-gpu.yaml"))
        assert "mistral created (server dry run)" in printed


@pytest.fixture(scope="class")
def hub(kubectl: Kubectl) -> Iterator[str]:
    """A stand-in for the Hugging Face hub, in a pod: it serves the demo's model to those who have the token."""
    hub = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hub", "labels": {"app": "hub"}},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "hub",
                    "image": images()["client"],
                    "command": ["python3", "/program/hub.py", "--folder=/model", f"--repository={HUB_ID}"],
                    "args": [f"--token={TOKEN}", "--host=0.0.0.0", "--port=8080", "--bytes-per-second=20e6"],
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [
                        {"name": "model", "mountPath": "/model", "readOnly": True},
                        {"name": "program", "mountPath": "/program", "readOnly": True},
                    ],
                }
            ],
            "volumes": [
                {"name": "model", "image": {"reference": MODEL_IMAGE, "pullPolicy": "Never"}},
                {"name": "program", "configMap": {"name": "hub"}},
            ],
        },
    }
    kubectl.run("create", "configmap", "hub", f"--from-file={Path(__file__).parent / 'hub.py'}")
    kubectl.run("apply", "-f", "-", stdin=json.dumps(hub))
    kubectl.run("expose", "pod", "hub", "--port=80", "--target-port=8080")
    kubectl.run("create", "secret", "generic", "hugging-face", f"--from-literal=token={TOKEN}")
    kubectl.run("wait", "--for=condition=Ready", "pod/hub", "--timeout=60s")
    yield f"http://hub.{kubectl.namespace}.svc"
    kubectl.delete("pod", "hub")


class TestHub:
    def test_a_hugging_face_id_starts_with_a_token_from_a_secret(
        self, kubectl: Kubectl, hub: str, clients: Clients
    ) -> None:
        token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hugging-face", "key": "token"}}}
        env = [{"name": "HF_ENDPOINT", "value": hub}, {"name": "MAX_MODEL_LEN", "value": "2048"}, KV_CACHE, token]
        kubectl.apply(endpoint("hub-model", model=HUB_ID, gpu={"count": 0}, resources=SMALL, env=env))
        told = {}

        def ready() -> Manifest | None:
            found = kubectl.get("iep", "hub-model") or {}
            startup = found["status"].get("startup", {})
            told[startup.get("step")] = startup
            return found if condition(found, "Ready")["status"] == "True" else None

        found = wait_for(ready, "the model is ready", timeout=120)
        assert 0 < told["Downloading"]["percent"] <= 100
        assert told["Downloading"]["bytesPerSecond"] > 0
        assert "startup" not in found["status"]
        assert found["status"]["models"] == [HUB_ID]
        url = f"http://hub-model.{kubectl.namespace}.svc/v2/hub-model/openai/v1"
        answers = read_check(clients.run_inside(PROGRAMS / "check.py", url, read_key(kubectl, "hub-model"), HUB_ID))
        assert "Paris" in answers["chat"]
        assert answers["models"] == [HUB_ID]
        kubectl.delete("iep", "hub-model")

    def test_a_gated_repository_without_a_token_says_so(self, kubectl: Kubectl, hub: str) -> None:
        env = [{"name": "HF_ENDPOINT", "value": hub}]
        kubectl.apply(endpoint("gated", model=HUB_ID, gpu={"count": 0}, resources=SMALL, env=env))
        found = wait_for(reason_is(kubectl, "GatedRepository", "gated"), "the endpoint says so", timeout=120)
        assert condition(found, "Stalled")["status"] == "True"
        assert "HF_TOKEN" in condition(found, "Ready")["message"]
        kubectl.delete("iep", "gated")


def test_three_of_the_demos_pods_and_a_spare_one_fit_and_a_change_rolls_them(kubectl: Kubectl) -> None:
    demo = yaml.safe_load((ROOT / "examples/smollm2.yaml").read_text())
    kubectl.apply(canned("three", replicas=3, resources=demo["spec"]["resources"]))
    wait_for(
        lambda: (kubectl.get("iep", "three") or {})["status"].get("ready") == "3/3", "three are ready", timeout=120
    )
    kubectl.patch("iep", "three", {"spec": {"env": [KV_CACHE, {"name": "MAX_MODEL_LEN", "value": "512"}]}})
    most_scheduled, fewest_ready = 0, 3

    def rolled() -> bool:
        nonlocal most_scheduled, fewest_ready
        pods = kubectl.list("pods", "forebay.dev/endpoint=three")
        scheduled = [pod for pod in pods if "nodeName" in pod["spec"] and "deletionTimestamp" not in pod["metadata"]]
        most_scheduled = max(most_scheduled, len(scheduled))
        fewest_ready = min(fewest_ready, sum(condition(pod, "Ready").get("status") == "True" for pod in scheduled))
        found = kubectl.get("iep", "three") or {}
        current = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return bool(current and condition(found, "Ready")["reason"] == "Ready")

    wait_for(rolled, "all three are of the new revision", timeout=180)
    assert (most_scheduled, fewest_ready) == (4, 3)
    kubectl.delete("iep", "three")


class TestBadInput:
    def test_a_misspelt_variable_is_a_warning_and_the_endpoint_runs(self, kubectl: Kubectl) -> None:
        kubectl.apply(canned("misspelt", env=[{"name": "MAX_MODEL_LEM", "value": "64"}]))
        found = wait_ready(kubectl, "misspelt")
        warning = condition(found, "EnvRecognized")
        assert (warning["status"], warning["reason"]) == ("False", "Doubtful")
        assert "MAX_MODEL_LEM is not known to the server; did you mean MAX_MODEL_LEN?" in warning["message"]
        kubectl.delete("iep", "misspelt")

    def test_a_wrong_value_is_told_in_the_servers_words(self, kubectl: Kubectl) -> None:
        kubectl.apply(canned("wrong", env=[{"name": "MAX_MODEL_LEN", "value": "many"}]))
        found = wait_for(reason_is(kubectl, "InvalidConfiguration", "wrong"), "the endpoint says so", timeout=60)
        assert "MAX_MODEL_LEN" in condition(found, "Ready")["message"]
        assert condition(found, "Stalled")["status"] == "True"
        kubectl.delete("iep", "wrong")
