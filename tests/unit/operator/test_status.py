"""What the status says of what is observed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from forebay_operator.diagnosis import Diagnosis
from forebay_operator.status import Observed, assess, assess_invalid
from forebay_operator.types import parse_endpoint
from tests.kubectl import Manifest, condition
from tests.unit.operator.test_diagnosis import ended, gone, pod, unscheduled

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, 0, tzinfo=UTC)


def endpoint_manifest(**spec: Any) -> Manifest:
    metadata = {"namespace": "team", "name": "one", "uid": "u", "generation": 3}
    return {"kind": "InferenceEndpoint", "metadata": metadata, "spec": {"model": "org/model", **spec}}


def deployment(**status: Any) -> Manifest:
    template = {"metadata": {"annotations": {"forebay.dev/revision": "newest"}}}
    return {"metadata": {}, "spec": {"replicas": 1, "template": template}, "status": status}


def refusing() -> Manifest:
    return deployment(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}])


def ready() -> Manifest:
    return pod(conditions=[{"type": "Ready", "status": "True"}], ready=True, state={"running": {}})


def old(one: Manifest) -> Manifest:
    """The pod, as one of a template before."""
    return {**one, "metadata": {**one["metadata"], "annotations": {"forebay.dev/revision": "before"}}}


LOADING: dict[str, Any] = {"state": {"running": {}}}
NOT_OWNED = Diagnosis("NotOwned", "taken", stalled=True)
SCHEDULED = {"type": "PodScheduled", "status": "True"}
SANDBOX = {"type": "PodReadyToStartContainers", "status": "True"}
BAD_FLAG = ended(78, '{"reason": "BadFlag", "message": "no"}')
D = deployment()

# what is wanted, what is observed, and the reason with the status of Ready, Reconciling and Stalled
STATES = [
    ("nothing yet", 1, Observed(None, []), "Scheduling", "False True False"),
    ("no node yet", 1, Observed(D, [pod()]), "Scheduling", "False True False"),
    ("on a node", 1, Observed(D, [pod(conditions=[SCHEDULED])]), "PreparingPod", "False True False"),
    ("pulling", 1, Observed(D, [pod(conditions=[SCHEDULED, SANDBOX])]), "PullingImage", "False True False"),
    ("loading", 1, Observed(D, [pod(**LOADING)]), "Starting", "False True False"),
    ("no longer answering", 1, Observed(D, [pod(**LOADING, started=True)]), "NotAnswering", "False True False"),
    ("ready", 1, Observed(D, [ready()]), "Ready", "True False False"),
    ("ready beside a dead pod", 1, Observed(D, [ready(), gone("Evicted", "")]), "Ready", "True False False"),
    ("scaling up", 2, Observed(D, [ready(), pod()]), "Updating", "True True False"),
    ("scaling down", 1, Observed(D, [ready(), ready()]), "Updating", "True True False"),
    ("rolling out", 1, Observed(D, [old(ready()), pod()]), "Updating", "True True False"),
    ("change unseen", 1, Observed(D, [old(ready())]), "Updating", "True True False"),
    ("no node", 1, Observed(D, [unscheduled("none")]), "Unschedulable", "False True False"),
    ("bad flag", 1, Observed(D, [BAD_FLAG]), "BadFlag", "False False True"),
    ("bad flag mended", 1, Observed(D, [old(BAD_FLAG), pod(**LOADING)]), "Starting", "False True False"),
    ("bad flag just mended", 1, Observed(D, [old(BAD_FLAG)]), "Scheduling", "False True False"),
    ("bad update", 1, Observed(D, [old(ready()), ended(1)]), "Degraded", "True True False"),
    ("bad flag in an update", 1, Observed(D, [old(ready()), BAD_FLAG]), "Degraded", "True False True"),
    ("pods of a dead namesake", 1, Observed(None, [ready()]), "Scheduling", "False True False"),
    ("quota", 1, Observed(refusing(), []), "PodsRefused", "False True False"),
    ("name taken", 1, Observed(None, [], NOT_OWNED), "NotOwned", "False False True"),
    ("name taken later", 1, Observed(D, [ready()], NOT_OWNED), "Degraded", "True False True"),
    ("off", 0, Observed(D, []), "ScaledToZero", "False False False"),
    ("going off", 0, Observed(D, [ended(1)]), "ScaledToZero", "False True False"),
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
    assert all(each["message"] for each in conditions)


def test_a_pod_that_is_being_deleted_does_not_count() -> None:
    leaving = ended(1)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = assess(parse_endpoint(endpoint_manifest()), Observed(D, [leaving, ready()]), {}, NOW)
    assert condition({"status": status}, "Ready")["reason"] == "Ready"
    assert status["replicas"] == 1


def test_counts_and_names_are_told() -> None:
    endpoint = parse_endpoint(endpoint_manifest(replicas=3, service={"port": 8080}))
    status = assess(endpoint, Observed(D, [ready(), pod()]), {}, NOW)
    assert status["url"] == "http://one.team.svc:8080/v2/one/openai/v1"
    assert (status["ready"], status["replicas"], status["readyReplicas"]) == ("1/3", 2, 1)
    assert status["selector"] == "forebay.dev/endpoint=one"
    assert status["models"] == ["org/model"]
    assert status["observedGeneration"] == 3


def test_transition_times_move_only_with_the_status() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    first = assess(endpoint, Observed(D, [pod()]), {}, NOW)
    second = assess(endpoint, Observed(D, [pod(**LOADING)]), first, LATER)
    third = assess(endpoint, Observed(D, [ready()]), second, LATER)
    times = [condition({"status": each}, "Ready")["lastTransitionTime"] for each in (first, second, third)]
    assert times == ["2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"]


def test_the_same_observation_gives_the_same_status() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    observed = Observed(D, [ready()], doubtful=["odd"])
    first = assess(endpoint, observed, {}, NOW)
    assert assess(endpoint, observed, first, LATER) == first


def test_a_message_is_never_longer_than_a_condition_takes() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    observed = Observed(D, [], Diagnosis("Refused", "x" * 100_000), doubtful=["y" * 100_000])
    conditions = assess(endpoint, observed, {}, NOW)["conditions"]
    assert max(len(each["message"]) for each in conditions) == 32768


INVALID = Diagnosis("InvalidSpec", "spec.model: missing", stalled=True)


@pytest.mark.parametrize(
    ("pods", "ready_status", "reason"), [([], "False", "InvalidSpec"), ([old(ready())], "True", "Degraded")]
)
def test_an_invalid_spec_is_a_stall_and_what_ran_before_still_counts(
    pods: list[Manifest], ready_status: str, reason: str
) -> None:
    before = assess(parse_endpoint(endpoint_manifest()), Observed(D, [ready()]), {}, NOW)
    manifest = {**endpoint_manifest(model=None), "status": before}
    status = assess_invalid(manifest, Observed(D, pods, INVALID), LATER)
    found = condition({"status": status}, "Ready")
    assert (found["status"], found["reason"]) == (ready_status, reason)
    assert "spec.model: missing" in found["message"]
    assert condition({"status": status}, "Stalled")["status"] == "True"
    assert (status["observedGeneration"], status["readyReplicas"]) == (3, len(pods))
    assert status["url"] == before["url"]
