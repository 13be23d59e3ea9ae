"""The server in pods of vLLM: copied by an init container, mounted as a volume, or built into the image."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from cluster import kind
from cluster.images import reference
from tests.e2e.cluster import NAME
from tests.e2e.forebay import PROGRAMS, Clients, images, read_check, read_key, talking, wait_ready
from tests.e2e.release import Release
from tests.e2e.scale_to_zero import address, make_canned, pods, settled
from tests.endpoints import wait_for_no_children
from tests.kubectl import Kubectl, Manifest, condition, wait_for

SIX_LINES = """\
apiVersion: forebay.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: six-lines}
spec:
  model: oci://forebay.local/smollm2-135m-instruct:1
  gpu: {count: 0}
"""
"""It runs in the plain vLLM image of the chart. The tests add a line for the overlay."""

WAYS: dict[str, Callable[[Manifest], bool]] = {
    "Copy": lambda spec: "initContainers" in spec,
    "ImageVolume": lambda spec: any("image" in volume for volume in spec["volumes"] if "overlay" in volume["name"]),
    "None": lambda spec: "command" not in spec["containers"][0],
}
"""The value of spec.overlay, and whether the spec of a pod follows it."""


def last_start(kubectl: Kubectl, name: str) -> Manifest | None:
    status: Manifest = (kubectl.get("iep", name) or {}).get("status") or {}
    return status.get("lastStart")


@pytest.mark.parametrize("way", ["Copy", "ImageVolume"])
def test_a_six_line_endpoint_serves_from_a_plain_vllm_image(kubectl: Kubectl, clients: Clients, way: str) -> None:
    manifest = yaml.safe_load(SIX_LINES)
    manifest["spec"]["overlay"] = way
    kubectl.apply(manifest)
    wait_ready(kubectl, "six-lines")
    (pod,) = pods(kubectl, "six-lines")
    assert pod["spec"]["containers"][0]["image"] == images()["vllm-cpu"]
    assert WAYS[way](pod["spec"])
    url = f"http://six-lines.{kubectl.namespace}.svc/v1"
    answers = read_check(clients.run_inside(PROGRAMS / "check.py", url, read_key(kubectl, "six-lines"), "six-lines"))
    assert "Paris" in answers["chat"]
    last = wait_for(lambda: last_start(kubectl, "six-lines"), "the status has the last start", timeout=90)
    assert last["vllmVersion"].startswith("0.32")
    assert "variables" not in last, "the operator's list is of this vLLM"
    assert condition(kubectl.get("iep", "six-lines"), "EnvRecognized")["status"] == "True"
    kubectl.delete("iep", "six-lines")
    wait_for_no_children(kubectl, "six-lines")


def test_a_change_of_the_overlay_fails_no_request(kubectl: Kubectl, clients: Clients, release: Release) -> None:
    """The self-contained image comes from the previous release. The cluster has it for the upgrade test."""
    if release.trouble:
        pytest.fail(release.trouble)
    make_canned(kubectl, "moving", None, step=0.01, overlay="Copy")
    wait_for(settled(kubectl, "moving", "1/1"), "the first pod is ready", timeout=300)
    seen = set()
    with talking(clients, "served", *address(kubectl, "moving")) as counted:
        for way in ("ImageVolume", "None", "Copy"):
            image = release.images["server-canned"] if way == "None" else images()["vllm-canned"]
            kubectl.patch("iep", "moving", {"spec": {"overlay": way, "image": image}})
            wait_for(settled(kubectl, "moving", "1/1"), f"the pod with {way} is ready", timeout=300)
            wait_for(lambda: len(pods(kubectl, "moving")) == 1, "the previous pod has ended", timeout=180)
            (pod,) = pods(kubectl, "moving")
            assert WAYS[way](pod["spec"])
            seen.add(pod["metadata"]["uid"])
    assert len(seen) == 3
    assert counted["failed"] == []
    assert sum(counted["answered"].values()) >= 30
    kubectl.delete("iep", "moving")


@pytest.mark.soak
def test_an_image_of_dockerfile_server_serves(kubectl: Kubectl) -> None:
    """This is a soak test, because a change of the server would load 3 GB into the cluster. `make test` runs the image
    with docker: tests/e2e/test_image_layouts.py, tests/conformance."""
    image = reference("server-canned")
    kind.load(NAME, [image])
    make_canned(kubectl, "whole", None, overlay="None", image=image)
    wait_ready(kubectl, "whole")
    (pod,) = pods(kubectl, "whole")
    assert WAYS["None"](pod["spec"])
    kubectl.delete("iep", "whole")


def test_any_user_of_group_0_can_copy_and_run_the_server(kubectl: Kubectl) -> None:
    """OpenShift runs pods with user IDs that are not in the image's /etc/passwd. The root file system is read-only."""
    name = "any-user"
    make_canned(kubectl, name, None, overlay="Copy", replicas=0)
    deployment = wait_for(lambda: kubectl.get("deployment", name), "the Deployment exists")
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    ids = {"runAsUser": 1000680000, "runAsGroup": 0, "fsGroup": 1000680000}
    security: Manifest = {**spec["securityContext"], **ids}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
    kubectl.apply({**pod, "spec": {**spec, "securityContext": security, "restartPolicy": "Never"}})
    kubectl.run("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=180s")
    user = kubectl.run("exec", name, "--", "python3", "-c", "import getpass, os; print(os.getuid(), getpass.getuser())")
    assert user.split()[0] == "1000680000"
    kubectl.run("delete", "pod", name, "--grace-period=0", "--force")
    kubectl.delete("iep", name)
