"""Endpoints of every kind: on GPUs, from a hub, misspelt, wrong. The canned server runs where no answer counts."""

from collections.abc import Iterator

import pytest

from cluster import kind
from cluster.pins import ROOT
from tests.e2e.canned import KV_CACHE, MODEL, SMALL, canned
from tests.e2e.cluster import NAME as CLUSTER
from tests.e2e.forebay import PROGRAMS, Clients, read_check, read_key, wait_ready
from tests.e2e.hub import COMMIT
from tests.e2e.standins import run_helper
from tests.endpoints import endpoint, reason_is
from tests.kubectl import Kubectl, Manifest, condition, wait_for

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
TOKEN = "hf_of_the_test"


class TestGpus:
    def test_an_endpoint_without_a_gpu_shows_the_schedulers_message_and_runs_later(self, kubectl: Kubectl) -> None:
        kubectl.apply(canned("gpu", gpu={"count": 1}))
        found = wait_for(reason_is(kubectl, "NoSuchGPU", "gpu"), "the status of the endpoint shows it", timeout=180)
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

    def test_a_corrected_endpoint_gets_the_gpu_of_its_failing_pod(self, kubectl: Kubectl) -> None:
        node = kind.nodes(CLUSTER)[0]
        kind.advertise_gpus(CLUSTER, node, 1)
        wrong, right = {"name": "MAX_MODEL_LEN", "value": "many"}, {"name": "MAX_MODEL_LEN", "value": "512"}
        try:
            kubectl.apply(canned("corrected", gpu={"count": 1}, env=[wrong]))
            found = wait_for(
                reason_is(kubectl, "InvalidConfiguration", "corrected"),
                "the status of the endpoint shows it",
                timeout=180,
            )
            assert "MAX_MODEL_LEN" in condition(found, "Ready")["message"]
            assert condition(found, "Stalled")["status"] == "True"
            kubectl.apply(canned("corrected", gpu={"count": 1}, env=[right]))

            def is_corrected() -> bool:
                found = kubectl.get("iep", "corrected")
                assert found
                current = found["status"]["observedGeneration"] == found["metadata"]["generation"]
                assert not (current and condition(found, "Stalled")["status"] == "True"), (
                    "the message of the old pod is still in the status"
                )
                return bool(condition(found, "Ready")["status"] == "True")

            wait_for(is_corrected, "the corrected endpoint is ready", timeout=240)
        finally:
            kubectl.delete("iep", "corrected")
            kind.advertise_gpus(CLUSTER, node, 0)

    def test_the_mistral_example_passes_a_dry_run(self, kubectl: Kubectl) -> None:
        printed = kubectl.run("apply", "--dry-run=server", "-f", str(ROOT / "examples/mistral-gpu.yaml"))
        assert "mistral created (server dry run)" in printed


@pytest.fixture(scope="class")
def hub(kubectl: Kubectl) -> Iterator[str]:
    """A stand-in for the Hugging Face hub, in a pod: it serves the demo's model to clients with the token."""
    kubectl.run("create", "secret", "generic", "hugging-face", f"--from-literal=token={TOKEN}")
    options = ["--folder=/model", f"--repository={HUB_ID}", f"--token={TOKEN}", "--host=0.0.0.0", "--port=8080"]
    with run_helper(
        kubectl, "hub", *options, "--bytes-per-second=20e6", ports=(8080,), mounts={"/model": MODEL}
    ) as host:
        yield f"http://{host}:8080"


class TestHub:
    def test_a_hugging_face_id_starts_with_a_token_from_a_secret(
        self, kubectl: Kubectl, hub: str, clients: Clients
    ) -> None:
        token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hugging-face", "key": "token"}}}
        env = [{"name": "HF_ENDPOINT", "value": hub}, KV_CACHE, token]
        args = ["--max-model-len 2048", "--served-model-name", HUB_ID, "smollm2"]
        source = {"model": f"hf://{HUB_ID}", "revision": COMMIT}
        kubectl.apply(endpoint("hub-model", **source, args=args, gpu={"count": 0}, resources=SMALL, env=env))
        reports = {}

        def ready() -> Manifest | None:
            found = kubectl.get("iep", "hub-model") or {}
            startup = found["status"].get("startup", {})
            reports[startup.get("step")] = startup
            return found if condition(found, "Ready")["status"] == "True" else None

        found = wait_for(ready, "the model is ready", timeout=300)
        assert 0 < reports["Downloading"]["percent"] <= 100
        assert reports["Downloading"]["bytesPerSecond"] > 0
        assert "startup" not in found["status"]
        assert found["status"]["models"] == [HUB_ID, "smollm2"]
        url = f"http://hub-model.{kubectl.namespace}.svc/v2/hub-model/openai/v1"
        answers = read_check(clients.run_inside(PROGRAMS / "check.py", url, read_key(kubectl, "hub-model"), HUB_ID))
        assert "Paris" in answers["chat"]
        assert answers["models"] == [HUB_ID, "smollm2"]
        kubectl.delete("iep", "hub-model")

    def test_a_gated_repository_without_a_token_is_reported(self, kubectl: Kubectl, hub: str) -> None:
        env = [{"name": "HF_ENDPOINT", "value": hub}]
        kubectl.apply(endpoint("gated", model=HUB_ID, gpu={"count": 0}, resources=SMALL, env=env))
        found = wait_for(
            reason_is(kubectl, "GatedRepository", "gated"), "the status of the endpoint shows it", timeout=300
        )
        assert condition(found, "Stalled")["status"] == "True"
        assert "HF_TOKEN" in condition(found, "Ready")["message"]
        kubectl.delete("iep", "gated")
