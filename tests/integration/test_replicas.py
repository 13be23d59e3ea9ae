"""Writers of `spec.replicas`: the user, an autoscaler, and, while it is absent, the operator. The tests act like GitOps
tools: they apply a manifest again and again, by either kind of apply, and diff it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.endpoints import endpoint, exists, reason_is, start
from tests.kubectl import Kubectl, Manifest, Refused, wait_for

pytestmark = pytest.mark.usefixtures("operator")

SCALING = {"minReplicas": 1, "maxReplicas": 4}
APPLIES = {"client-side": (), "server-side": ("--server-side", "--force-conflicts")}
"""How a GitOps tool applies: options of `kubectl apply`."""

OPTIONS = {**APPLIES, "server-side without force": ("--server-side",)}
"""How people apply besides."""


def replicas_are(kubectl: Kubectl, number: int) -> Callable[[], bool]:
    return lambda: (kubectl.get("iep", "one") or {})["spec"].get("replicas") == number


def fill_in(kubectl: Kubectl, number: int) -> Manifest:
    """Wait until the number is there, and the operator has done all that follows from it. Returns the endpoint."""
    wait_for(replicas_are(kubectl, number), f"the endpoint has {number} replicas")

    def is_observed() -> Manifest | None:
        found = kubectl.get("iep", "one") or {}
        assert found["spec"]["replicas"] == number
        return found if found["status"]["observedGeneration"] == found["metadata"]["generation"] else None

    return wait_for(is_observed, "the operator has read it")


def scale(kubectl: Kubectl, number: int) -> None:
    """Scale through the subresource, as autoscalers do, and wait until the operator remembers the number."""
    kubectl.run("scale", "iep/one", f"--replicas={number}")

    def is_remembered() -> bool:
        return bool((kubectl.get("iep", "one") or {})["status"].get("desiredReplicas") == number)

    wait_for(is_remembered, "the status has the number")


def apply(kubectl: Kubectl, how: str, **spec: Any) -> None:
    kubectl.run("apply", "-f", "-", *OPTIONS[how], stdin=json.dumps(endpoint(**spec)))


def shows_no_diff(kubectl: Kubectl, how: str, **spec: Any) -> bool:
    """Whether `kubectl diff`, which fails on a difference, finds no change."""
    try:
        return kubectl.run("diff", "-f", "-", *OPTIONS[how], stdin=json.dumps(endpoint(**spec))) == ""
    except Refused:
        return False


@pytest.mark.parametrize(("how", "suspend"), [("client-side", True), ("server-side", False)])
def test_a_manifest_without_replicas_never_changes_the_number(kubectl: Kubectl, how: str, suspend: bool) -> None:
    spec = {"scaling": SCALING, "suspend": suspend}
    apply(kubectl, how, **spec)
    fill_in(kubectl, 1)
    scale(kubectl, 4)
    for again in APPLIES:
        apply(kubectl, again, **spec)
        assert replicas_are(kubectl, 4)()
        assert shows_no_diff(kubectl, again, **spec)


@pytest.mark.parametrize("how", APPLIES)
def test_replicas_removed_from_the_manifest_stay_unchanged(kubectl: Kubectl, how: str) -> None:
    apply(kubectl, how, replicas=2)
    wait_for(exists(kubectl, "deployment", "one"), "the Deployment exists")
    apply(kubectl, how, replicas=2, scaling=SCALING)
    scale(kubectl, 4)
    pods = wait_for(lambda: four_pods(kubectl), "the Deployment has four pods")
    apply(kubectl, how, scaling=SCALING)
    fill_in(kubectl, 4)
    assert four_pods(kubectl) == pods, "it was not scaled between the two applies"
    assert shows_no_diff(kubectl, how, scaling=SCALING)


def four_pods(kubectl: Kubectl) -> set[str] | None:
    """The uids of the endpoint's pods, once there are four."""
    found = {pod["metadata"]["uid"] for pod in kubectl.list("pods") if "deletionTimestamp" not in pod["metadata"]}
    return found if len(found) == 4 else None


@pytest.mark.parametrize("number", [0, 3])
def test_removing_the_number_of_replicas_does_not_change_it(kubectl: Kubectl, number: int) -> None:
    start(kubectl, replicas=number)
    wait_for(lambda: "desiredReplicas" in (kubectl.get("iep", "one") or {})["status"], "the status has the number")
    kubectl.run("patch", "iep", "one", "--type=json", '--patch=[{"op": "remove", "path": "/spec/replicas"}]')
    fill_in(kubectl, number)


def test_a_replaced_manifest_keeps_the_number(kubectl: Kubectl) -> None:
    start(kubectl)
    scale(kubectl, 3)
    kubectl.run("replace", "-f", "-", stdin=json.dumps(endpoint(env=[{"name": "MAX_MODEL_LEN", "value": "64"}])))
    fill_in(kubectl, 3)


@pytest.mark.parametrize("how", [*APPLIES, "server-side without force"])
def test_a_number_of_replicas_set_later_belongs_to_the_user(kubectl: Kubectl, how: str) -> None:
    apply(kubectl, how)
    fill_in(kubectl, 1)
    apply(kubectl, how, replicas=3)
    fill_in(kubectl, 3)
    assert shows_no_diff(kubectl, how, replicas=3)


def test_an_invalid_endpoint_gets_a_number_of_replicas_too(kubectl: Kubectl) -> None:
    """An autoscaler needs it, and the endpoint needs it once it is corrected."""
    kubectl.apply(endpoint(adapters=[{"name": "one", "source": "org/a"}], model="pvc://claim/m"))
    wait_for(reason_is(kubectl, "InvalidSpec"), "the status of the endpoint shows it")
    assert replicas_are(kubectl, 1)()
    scale(kubectl, 2)
    kubectl.patch("iep", "one", {"spec": {"replicas": None}})
    fill_in(kubectl, 2)


def test_an_autoscaler_works_on_an_endpoint_that_never_had_replicas(kubectl: Kubectl, operator: Path) -> None:
    """Kubernetes' own controller; without metrics it only enforces its bounds."""
    target = {"apiVersion": "forebay.dev/v1alpha1", "kind": "InferenceEndpoint", "name": "one"}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
    }
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3, "metrics": [metric]}
    autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "one"}}
    kubectl.apply({**autoscaler, "spec": spec})
    kubectl.apply(endpoint())
    wait_for(replicas_are(kubectl, 2), "the autoscaler scales it to its minimum", timeout=20)
    for how in APPLIES:
        apply(kubectl, how)
        fill_in(kubectl, 2)
    assert f"endpoint {kubectl.namespace}/one: spec.replicas was omitted and is now 1" in operator.read_text()
