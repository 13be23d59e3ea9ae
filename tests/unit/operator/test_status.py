"""What the status says of what is observed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from forebay_operator.diagnosis import Diagnosis
from forebay_operator.status import Observed, assess, assess_invalid
from forebay_operator.types import parse_endpoint
from tests.kubectl import Manifest, condition
from tests.unit.operator.test_diagnosis import ended, pod, unscheduled

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, 0, tzinfo=UTC)


def endpoint_manifest(**spec: Any) -> Manifest:
    metadata = {"namespace": "team", "name": "one", "uid": "u", "generation": 3}
    return {"kind": "InferenceEndpoint", "metadata": metadata, "spec": {"model": "org/model", **spec}}


def deployment(total: int = 0, updated: int = 0, ready: int = 0, seen: int = 1, **more: Any) -> Manifest:
    status = {"observedGeneration": seen, "replicas": total, "updatedReplicas": updated, "readyReplicas": ready, **more}
    return {"metadata": {"generation": 1}, "status": status}


def refusing() -> Manifest:
    return deployment(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}])


NOT_OWNED = Diagnosis("NotOwned", "taken", stalled=True)
SCHEDULED = {"type": "PodScheduled", "status": "True"}
SANDBOX = {"type": "PodReadyToStartContainers", "status": "True"}

# what is wanted, what is observed, and the reason with the status of Ready, Reconciling and Stalled
STATES = [
    ("nothing yet", 1, Observed(None, []), "Scheduling", "False True False"),
    ("no node yet", 1, Observed(deployment(1, 1), [pod()]), "Scheduling", "False True False"),
    ("on a node", 1, Observed(deployment(1, 1), [pod(conditions=[SCHEDULED])]), "PreparingPod", "False True False"),
    (
        "pulling",
        1,
        Observed(deployment(1, 1), [pod(conditions=[SCHEDULED, SANDBOX])]),
        "PullingImage",
        "False True False",
    ),
    ("loading", 1, Observed(deployment(1, 1), [pod(state={"running": {}})]), "Starting", "False True False"),
    ("ready", 1, Observed(deployment(1, 1, 1), [pod(ready=True)]), "Ready", "True False False"),
    ("scaling up", 2, Observed(deployment(2, 2, 1), [pod(ready=True), pod()]), "Updating", "True True False"),
    ("scaling down", 1, Observed(deployment(2, 2, 2), []), "Updating", "True True False"),
    ("rolling out", 1, Observed(deployment(2, 1, 1), [pod(ready=True), pod()]), "Updating", "True True False"),
    ("change unseen", 1, Observed(deployment(1, 1, 1, seen=0), []), "Updating", "True True False"),
    ("no node", 1, Observed(deployment(1, 1), [unscheduled("none")]), "Unschedulable", "False True False"),
    ("bad flag", 1, Observed(deployment(1, 1), [ended(78, '{"reason": "F", "message": ""}')]), "F", "False False True"),
    ("bad update", 1, Observed(deployment(2, 1, 1), [pod(ready=True), ended(1)]), "Degraded", "True True False"),
    ("quota", 1, Observed(refusing(), []), "PodsRefused", "False True False"),
    ("name taken", 1, Observed(None, [], NOT_OWNED), "NotOwned", "False False True"),
    ("name taken later", 1, Observed(deployment(1, 1, 1), [], NOT_OWNED), "Degraded", "True False True"),
    ("off", 0, Observed(deployment(), []), "ScaledToZero", "False False False"),
    ("going off", 0, Observed(deployment(1, 1, 1), [ended(1)]), "ScaledToZero", "False True False"),
]


@pytest.mark.parametrize(
    ("wanted", "observed", "reason", "statuses"), [row[1:] for row in STATES], ids=[row[0] for row in STATES]
)
def test_the_conditions_tell_what_is(wanted: int, observed: Observed, reason: str, statuses: str) -> None:
    status = assess(parse_endpoint(endpoint_manifest(replicas=wanted)), observed, {}, NOW)
    conditions = [condition({"status": status}, kind) for kind in ("Ready", "Reconciling", "Stalled")]
    assert conditions[0]["reason"] == reason
    assert " ".join(each["status"] for each in conditions) == statuses
    assert {each["observedGeneration"] for each in conditions} == {3}
    assert all(each["message"] for each in conditions if each["reason"] != "F")


def test_a_pod_that_is_being_deleted_does_not_speak() -> None:
    leaving = ended(1)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = assess(parse_endpoint(endpoint_manifest()), Observed(deployment(1, 1, 1), [leaving]), {}, NOW)
    assert condition({"status": status}, "Ready")["reason"] == "Ready"


def test_counts_and_names_are_told() -> None:
    endpoint = parse_endpoint(endpoint_manifest(replicas=3, service={"port": 8080}))
    status = assess(endpoint, Observed(deployment(2, 2, 1), []), {}, NOW)
    assert status["url"] == "http://one.team.svc:8080/v2/one/openai/v1"
    assert (status["ready"], status["replicas"], status["readyReplicas"]) == ("1/3", 2, 1)
    assert status["selector"] == "forebay.dev/endpoint=one"
    assert status["observedGeneration"] == 3


def test_transition_times_move_only_with_the_status() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    first = assess(endpoint, Observed(deployment(1, 1), [pod()]), {}, NOW)
    second = assess(endpoint, Observed(deployment(1, 1), [pod(state={"running": {}})]), first, LATER)
    third = assess(endpoint, Observed(deployment(1, 1, 1), []), second, LATER)
    times = [condition({"status": each}, "Ready")["lastTransitionTime"] for each in (first, second, third)]
    assert times == ["2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"]


def test_the_same_observation_gives_the_same_status() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    observed = Observed(deployment(1, 1, 1), [], unrecognized=["odd"])
    first = assess(endpoint, observed, {}, NOW)
    assert assess(endpoint, observed, first, LATER) == first


def test_an_invalid_spec_is_a_stall_that_keeps_what_was_known() -> None:
    before = assess(parse_endpoint(endpoint_manifest()), Observed(deployment(1, 1, 1), []), {}, NOW)
    status = assess_invalid(4, ["spec.model: missing", "spec.auth: odd"], before, LATER)
    assert condition({"status": status}, "Ready")["message"] == "spec.model: missing; spec.auth: odd"
    assert condition({"status": status}, "Stalled")["status"] == "True"
    assert (status["observedGeneration"], status["readyReplicas"]) == (4, 1)
