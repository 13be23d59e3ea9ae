"""Defaults for all endpoints, as the chart passes them to the operator. Existing endpoints keep some of their
defaults."""

import json
from pathlib import Path

from tests.endpoints import endpoint, exists
from tests.integration.kubelet import play_kubelet
from tests.integration.operator_process import running_operator
from tests.kubectl import Kubectl, Manifest, condition, wait_for

DEFAULTS = {
    "env": [{"name": "HF_HUB_DOWNLOAD_TIMEOUT", "value": "60"}, {"name": "ENFORCE_EAGR", "value": "1"}],
    "envFrom": [{"secretRef": {"name": "hugging-face", "optional": True}}],
    "imagePullSecrets": [{"name": "registry"}],
    "resources": {"gpu": {"requests": {"cpu": "2", "memory": "8Gi"}}},
    "cache": {"size": "10Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]},
}
RUNNING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
KEPT = {name: DEFAULTS[name] for name in ("resources", "cache")}
"""The defaults that an existing endpoint does not get."""


def is_settled(kubectl: Kubectl, name: str) -> Manifest | None:
    """The Deployment, once the status has seen the endpoint's generation."""
    found = kubectl.get("iep", name) or {}
    generation = found.get("metadata", {}).get("generation")
    if found.get("status", {}).get("observedGeneration") != generation or not condition(found, "Ready"):
        return None
    return kubectl.get("deployment", name)


def test_new_endpoints_get_the_defaults_and_existing_ones_keep_their_own(
    kubectl: Kubectl, operators_kubectl: Kubectl, tmp_path: Path
) -> None:
    watched = f"--watch-namespaces={kubectl.namespace}"
    with running_operator(operators_kubectl, tmp_path / "before", watched):
        kubectl.apply(endpoint("old"))
        before = wait_for(lambda: is_settled(kubectl, "old"), "the first operator creates the Deployment")
    with running_operator(operators_kubectl, tmp_path / "kept", watched, f"--endpoint-defaults={json.dumps(KEPT)}"):
        kubectl.apply(endpoint("new"))
        wait_for(exists(kubectl, "deployment", "new"), "the second operator leads")
        wait_for(lambda: is_settled(kubectl, "new"), "the new endpoint has a status")
        old = kubectl.get("deployment", "old") or {}
        assert old["metadata"]["generation"] == before["metadata"]["generation"], "its Deployment is unchanged"
        assert kubectl.get("pvc", "old-cache") is None
    with running_operator(operators_kubectl, tmp_path / "all", watched, f"--endpoint-defaults={json.dumps(DEFAULTS)}"):
        for name in ("old", "new"):
            wait_for(lambda each=name: check_pods(kubectl, each), f"{name} has all defaults, in its turn")  # type: ignore[misc]
            claim = kubectl.get("pvc", f"{name}-cache") or {}
            assert claim["spec"]["storageClassName"] == "fast"
            assert condition(kubectl.get("iep", name), "EnvRecognized")["status"] == "True", "it is not the user's typo"
        kubectl.patch("iep", "new", {"spec": {"cache": {"size": "0"}}})
        wait_for(lambda: kubectl.get("pvc", "new-cache") and not mounts_claim(kubectl, "new"), "the cache is the disk")
        kubectl.run("delete", "iep", "old", "new")


def run_pods(kubectl: Kubectl) -> None:
    """Mark all pods as running. An endpoint that is starting gets no turn in a wave."""
    for pod in kubectl.list("pods"):
        if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]:
            play_kubelet(kubectl, pod["metadata"]["name"], RUNNING)


def check_pods(kubectl: Kubectl, name: str) -> bool:
    run_pods(kubectl)
    pod = (kubectl.get("deployment", name) or {})["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    return (
        values.get("HF_HUB_DOWNLOAD_TIMEOUT") == "60"
        and container.get("envFrom") == DEFAULTS["envFrom"]
        and container["resources"].get("requests", {}).get("memory") == "8Gi"
        and pod.get("imagePullSecrets") == [{"name": "registry"}]
        and mounts_claim(kubectl, name)
    )


def mounts_claim(kubectl: Kubectl, name: str) -> bool:
    volumes = (kubectl.get("deployment", name) or {})["spec"]["template"]["spec"]["volumes"]
    return any(each.get("persistentVolumeClaim", {}).get("claimName") == f"{name}-cache" for each in volumes)
