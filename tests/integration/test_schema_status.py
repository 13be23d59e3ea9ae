"""The CRD's status, columns and descriptions, on a real API server."""

import pytest

from forebay_operator.status.diagnosis import FAILURES
from forebay_operator.status.readiness import STATES
from forebay_server.lifecycle.diagnosis import RULES
from tests.endpoints import endpoint
from tests.kubectl import Kubectl, Refused, condition


def test_an_endpoint_without_a_status_is_not_ready(kubectl: Kubectl) -> None:
    kubectl.apply(endpoint())
    seen = kubectl.get("iep", "one")
    assert seen is not None
    assert seen["status"]["observedGeneration"] == -1
    ready = condition(seen, "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", "Pending")
    assert "lastTransitionTime" not in ready, "no time is known yet"


def test_the_status_knows_all_or_some_names_of_models(kubectl: Kubectl) -> None:
    kubectl.apply(endpoint())
    for known in ("All", "Some"):
        kubectl.patch("iep", "one", {"status": {"models": ["a b"], "modelsKnown": known}}, "--subresource=status")
    with pytest.raises(Refused, match=r'modelsKnown: Unsupported value: "None"'):
        kubectl.patch("iep", "one", {"status": {"modelsKnown": "None"}}, "--subresource=status")


def test_the_columns_fit_a_terminal_of_100_characters(kubectl: Kubectl) -> None:
    reasons = [*STATES, *(each.name for each in FAILURES), *(rule.reason for rule in RULES)]
    name, url = 40 * "a", f"http://{60 * 'a'}.svc/v2/{60 * 'a'}/openai/v1"
    bucket = f"s3://bucket/{100 * 'a'}"
    kubectl.apply(endpoint(name, model=bucket, gpu={"count": 64}, replicas=1000))
    ready = {"type": "Ready", "status": "False", "reason": max(reasons, key=len), "message": ""}
    current = {"type": "UpToDate", "status": "True", "reason": "Current", "message": ""}
    status = {"conditions": [ready, current], "ready": "1000/1000", "url": url, "jobs": {"queued": 9, "running": 3}}
    kubectl.patch("iep", name, {"status": status}, "--subresource=status")
    header, row = kubectl.run("get", "iep").splitlines()
    assert header.split() == ["NAME", "STATUS", "READY", "GPUS", "AGE"]
    assert row.split()[:4] == [name, ready["reason"], "1000/1000", "64"]
    longest_age = len("9y364d")
    assert row.index("64") + len("GPUS   ") + longest_age <= 100
    header, row = kubectl.run("get", "iep", "-o", "wide").splitlines()
    assert header.split()[5:] == ["UPTODATE", "QUEUED", "RUNNING", "MODEL", "URL"]
    assert row.split()[5:] == ["True", "9", "3", bucket, url]


@pytest.mark.parametrize("path", ["", ".spec", ".spec.pod.volumes", ".status.conditions"])
def test_kubectl_explain_describes_every_field(control_plane: Kubectl, path: str) -> None:
    page = control_plane.run("explain", f"iep{path}")
    assert "DESCRIPTION" in page
    assert "<no description>" not in page


def test_the_crd_is_small_enough_for_kubectl_apply(control_plane: Kubectl) -> None:
    crd = control_plane.get("crd", "inferenceendpoints.forebay.dev")
    assert crd is not None
    last_applied = crd["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert len(last_applied) < 200_000
