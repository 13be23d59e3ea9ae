"""Each check of the diagnosis table against what Kubernetes reports, copied from real clusters."""

import json
from typing import Any

import pytest

from forebay_operator.diagnosis import Diagnosis, diagnose_pods
from tests.kubectl import Manifest


def pod(created: str = "2026-01-01T00:00:00Z", conditions: list[Manifest] | None = None, **container: Any) -> Manifest:
    return {
        "metadata": {
            "name": "one-abc",
            "creationTimestamp": created,
            "annotations": {"forebay.dev/revision": "newest"},
        },
        "spec": {"containers": [{"name": "server", "resources": {"limits": {"memory": "2Gi"}}}]},
        "status": {
            "conditions": conditions or [],
            "containerStatuses": [{"name": "server", "ready": False, **container}],
        },
    }


def unscheduled(message: str, reason: str = "Unschedulable") -> Manifest:
    return pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}])


def waiting(reason: str, message: str) -> Manifest:
    return pod(state={"waiting": {"reason": reason, "message": message}})


def ended(code: int, message: str = "", reason: str = "Error") -> Manifest:
    end = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=end)


def gone(reason: str, message: str) -> Manifest:
    evicted = pod()
    return {**evicted, "status": {"phase": "Failed", "reason": reason, "message": message}}


SAID = json.dumps({"reason": "UnknownFlag", "message": "no flag X", "remedy": "Remove it"})

FAILING = [
    (unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."), "Unschedulable", "1 Insufficient", False),
    (waiting("ImagePullBackOff", "Back-off pulling image x"), "ImagePullFailed", "Back-off pulling image x", False),
    (waiting("ErrImageNeverPull", "Container image x is not present"), "ImagePullFailed", "is not present", False),
    (waiting("InvalidImageName", "couldn't parse image name"), "ImagePullFailed", "couldn't parse", True),
    (
        waiting("CreateContainerConfigError", 'secret "hf" not found'),
        "ReferenceMissing",
        'secret "hf" not found',
        False,
    ),
    (ended(137, reason="OOMKilled"), "OutOfMemory", "the memory limit of 2Gi", False),
    (ended(78, SAID), "UnknownFlag", "no flag X. Remove it", True),
    (ended(1, SAID), "UnknownFlag", "no flag X", False),
    (ended(1, "Traceback: last words"), "ServerFailed", "exit code 1: Traceback: last words", False),
    (ended(139), "ServerFailed", "exit code 139. See kubectl logs --previous one-abc", False),
    (ended(1, '"a JSON string"'), "ServerFailed", "a JSON string", False),
    (ended(1, '{"other": 1}'), "ServerFailed", '{"other": 1}', False),
    (ended(1, '{"reason": "not a word!"}'), "ServerFailed", "not a word", False),
    (ended(1, '{"reason": "Odd", "message": 5}'), "ServerFailed", '"message": 5', False),
    (waiting("CreateContainerError", "no command"), "ContainerRefused", "no command", False),
    (gone("Evicted", "the node was low on memory"), "EndedByNode", "Evicted: the node was low on memory", False),
]


@pytest.mark.parametrize(("failing", "reason", "words", "stalled"), FAILING)
def test_a_failing_pod_is_explained(failing: Manifest, reason: str, words: str, stalled: bool) -> None:
    found = diagnose_pods([failing])
    assert found is not None
    assert (found.reason, found.stalled) == (reason, stalled)
    assert words in found.text


FINE = [
    pod(),
    unscheduled("waiting for a gate", reason="SchedulingGated"),
    waiting("ContainerCreating", ""),
    pod(ready=True, state={"running": {}}, lastState={"terminated": {"exitCode": 1}}),
    {"metadata": {"name": "new", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": []}},
]


@pytest.mark.parametrize("fine", FINE)
def test_a_pod_that_does_not_fail_says_nothing(fine: Manifest) -> None:
    assert diagnose_pods([fine]) is None


def test_the_newest_failing_pod_speaks() -> None:
    old, new = ended(1, "old"), ended(1, "new")
    new["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    found = diagnose_pods([new, old, pod("2026-01-03T00:00:00Z")])
    assert found is not None
    assert "new" in found.message


def test_a_pod_that_ended_for_good_is_silent_once_another_lives() -> None:
    assert diagnose_pods([gone("Evicted", "low on memory"), pod("2025-01-01T00:00:00Z")]) is None


def test_long_words_are_cut() -> None:
    found = diagnose_pods([ended(1, "x" * 5000)])
    assert found is not None
    assert len(found.text) < 1200


def test_a_remedy_is_a_sentence_of_its_own() -> None:
    assert Diagnosis("R", "what was seen.", "what to do").text == "what was seen. what to do"
