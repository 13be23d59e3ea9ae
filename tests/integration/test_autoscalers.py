"""The autoscalers of docs/scaling.md on a real API server: its manifests are accepted, and their target scales."""

import copy
import json
from typing import Any

import pytest

from tests.autoscalers import install_keda_crd, read_example, read_trigger_parameters
from tests.endpoints import endpoint
from tests.kubectl import Kubectl, Manifest, Refused, wait_for


@pytest.fixture(scope="module", autouse=True)
def keda(control_plane: Kubectl) -> None:
    install_keda_crd(control_plane)


def apply_strictly(kubectl: Kubectl, manifest: Manifest) -> Manifest:
    """Apply an object; a field that its API does not have is refused."""
    return kubectl.apply(manifest, "--validate=strict")


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("kind", ["HorizontalPodAutoscaler", "ScaledObject"])
def test_the_example_is_accepted_and_its_target_scales(kubectl: Kubectl, kind: str) -> None:
    target = apply_strictly(kubectl, read_example("kind", kind))["spec"]["scaleTargetRef"]
    kubectl.apply(endpoint(target["name"]))
    group, _, version = target["apiVersion"].partition("/")
    assert (group, version, target["kind"]) == ("forebay.dev", "v1alpha1", "InferenceEndpoint")
    url = f"/apis/{target['apiVersion']}/namespaces/{kubectl.namespace}/inferenceendpoints/{target['name']}/scale"
    wait_for(lambda: "replicas" in (kubectl.get("iep", target["name"]) or {})["spec"], "the endpoint gets its replicas")
    scale = json.loads(kubectl.run("get", "--raw", url))
    assert scale["spec"]["replicas"] == 1
    kubectl.run("replace", "--raw", url, "-f", "-", stdin=json.dumps({**scale, "spec": {"replicas": 4}}))
    found = kubectl.get("iep", target["name"])
    assert found
    assert found["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        pytest.param(["minReplicas"], 1, "unknown field", id="the field of an HPA"),
        pytest.param(["scaleTargetRef", "name"], None, "name: Required value", id="no target"),
        pytest.param(["triggers", 0, "metadata", "threshold"], 32, "Invalid value", id="a number that is no text"),
    ],
)
def test_keda_rejects_an_invalid_scaled_object(kubectl: Kubectl, path: list[Any], value: object, message: str) -> None:
    wrong = copy.deepcopy(read_example("kind", "ScaledObject"))
    part = wrong["spec"]
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(Refused, match=message):
        apply_strictly(kubectl, wrong)


def test_kedas_trigger_accepts_the_metadata_of_the_example() -> None:
    (trigger,) = read_example("kind", "ScaledObject")["spec"]["triggers"]
    parameters = read_trigger_parameters(trigger["type"])
    assert {name for name, required in parameters.items() if required} <= trigger["metadata"].keys()
    assert trigger["metadata"].keys() <= parameters.keys()
