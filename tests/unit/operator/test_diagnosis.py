"""Each check of the diagnosis table against what Kubernetes reports, copied from real clusters."""

import ast
import json
from typing import Any

import pytest

from cluster.pins import ROOT
from forebay_operator.diagnosis import FAILURES, Diagnosis, diagnose_pods, diagnose_refusal, diagnose_standstill
from forebay_operator.diagnosis.pods import REASON
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

NODES = "0/3 nodes are available: "
PREEMPTION = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
PULL = 'failed to pull and unpack image "registry.example/a:1": failed to resolve reference "registry.example/a:1": '
BACK_OFF = 'Back-off pulling image "registry.example/a:1": ErrImagePull: '

FAILING = [
    (unscheduled(NODES + "3 Insufficient nvidia.com/gpu." + PREEMPTION), "Unschedulable", "3 Insufficient", False),
    (unscheduled(NODES + "3 node(s) had untolerated taint {a: b}."), "Unschedulable", "untolerated taint", False),
    (
        unscheduled(NODES + 'persistentvolumeclaim "weights" not found. not found'),
        "PVCMissing",
        '"weights" not found',
        False,
    ),
    (
        unscheduled(NODES + "pod has unbound immediate PersistentVolumeClaims. not found"),
        "PVCUnbound",
        "unbound immediate",
        False,
    ),
    (
        unscheduled(NODES + "3 node(s) didn't find available persistent volumes to bind."),
        "PVCUnbound",
        "available persistent volumes",
        False,
    ),
    (
        unscheduled('running PreBind plugin "VolumeBinding": binding volumes: context deadline', "SchedulerError"),
        "PVCUnbound",
        "binding volumes",
        False,
    ),
    (
        unscheduled(NODES + "3 node(s) had volume node affinity conflict."),
        "VolumeElsewhere",
        "affinity conflict",
        False,
    ),
    (waiting("ErrImagePull", PULL + "registry.example/a:1: not found"), "ImageNotFound", "a:1: not found", False),
    (waiting("ImagePullBackOff", BACK_OFF + PULL + "not found"), "ImageNotFound", "Back-off pulling", False),
    (waiting("ErrImageNeverPull", "Container image x is not present"), "ImageNotFound", "is not present", False),
    (
        waiting(
            "ErrImagePull",
            PULL + "pull access denied, repository does not exist or may require authorization: "
            "server message: insufficient_scope: authorization failed",
        ),
        "ImagePullDenied",
        "pull access denied",
        False,
    ),
    (
        waiting("ImagePullBackOff", BACK_OFF + PULL + "unexpected status from HEAD request: 401 Unauthorized"),
        "ImagePullDenied",
        "401",
        False,
    ),
    (
        waiting("ErrImagePull", PULL + "failed to do request: Head: dial tcp: lookup registry.example: no such host"),
        "RegistryUnreachable",
        "no such host",
        False,
    ),
    (
        waiting("ErrImagePull", "toomanyrequests: You have reached your pull rate limit"),
        "RegistryUnreachable",
        "rate limit",
        False,
    ),
    (waiting("ImagePullBackOff", "Back-off pulling image x"), "ImagePullFailed", "Back-off pulling image x", False),
    (waiting("InvalidImageName", "couldn't parse image name"), "InvalidImageName", "couldn't parse", True),
    (waiting("CreateContainerConfigError", 'secret "hf" not found'), "SecretMissing", 'secret "hf" not found', False),
    (waiting("CreateContainerConfigError", 'configmap "c" not found'), "ConfigMapMissing", '"c" not found', False),
    (
        waiting("CreateContainerConfigError", "couldn't find key token in Secret team/hf"),
        "EntryMissing",
        "key token in Secret team/hf",
        False,
    ),
    (
        waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
        "ReferenceMissing",
        "runAsNonRoot",
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
    (gone("Evicted", "The node was low on resource: memory."), "Evicted", "low on resource: memory", False),
    (
        gone("UnexpectedAdmissionError", "Allocate failed due to requested number of devices unavailable"),
        "NodeRefused",
        "devices unavailable",
        False,
    ),
    (gone("OutOfnvidia.com/gpu", "Node didn't have enough resource"), "NodeRefused", "OutOfnvidia.com/gpu", False),
    (gone("Terminated", "Pod was terminated in response to node shutdown."), "EndedByNode", "node shutdown", False),
]
"""A pod, with the reason, words that must be told, and whether only the user can help. The texts are those that the
scheduler, the kubelet and containerd write; each was looked up where it is made or taken from a running cluster."""


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


def timed_out(seconds: int, ready_until: str = "2026-01-01T00:00:00Z") -> Manifest:
    """A pod whose startup probe allows 60 s, and whose server was killed after so many seconds."""
    one = ended(137)
    end = {
        "startedAt": "2026-01-01T00:00:10Z",
        "finishedAt": f"2026-01-01T00:{(10 + seconds) // 60:02}:{(10 + seconds) % 60:02}Z",
    }
    one["status"]["containerStatuses"][0]["lastState"]["terminated"] |= end
    one["status"]["conditions"] = [{"type": "Ready", "status": "False", "lastTransitionTime": ready_until}]
    one["spec"]["containers"][0]["startupProbe"] = {"periodSeconds": 2, "failureThreshold": 30}
    one["metadata"]["uid"] = "u"
    return one


def test_a_start_that_took_too_long_names_the_step_that_it_hung_in() -> None:
    found = diagnose_pods([timed_out(65)], {"u/0": "LoadingWeights"})
    assert found is not None
    assert found.reason == "StartupTimeout"
    assert "within 60 s; it was at the step LoadingWeights" in found.message
    silent = diagnose_pods([timed_out(65)])
    assert silent is not None
    assert "step" not in silent.message


@pytest.mark.parametrize("other", [timed_out(30), timed_out(65, ready_until="2026-01-01T00:01:00Z")])
def test_a_server_that_ended_sooner_or_had_answered_was_not_too_slow(other: Manifest) -> None:
    found = diagnose_pods([other])
    assert found is not None
    assert found.reason == "ServerFailed"


def test_a_crash_loop_says_how_often() -> None:
    looping = ended(1, "last words")
    looping["status"]["containerStatuses"][0]["restartCount"] = 4
    found = diagnose_pods([looping])
    assert found is not None
    assert "exit code 1, 5 times now: last words" in found.message


def refusing(message: str, **spec: Any) -> Manifest:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    return {"metadata": {}, "spec": spec, "status": {"conditions": [condition]}}


REFUSALS = [
    ('pods "a" is forbidden: exceeded quota: gpus, requested: pods=1, used: pods=0, limited: pods=0', "QuotaExceeded"),
    ('pods "a" is forbidden: failed quota: gpus: must specify limits.memory', "QuotaExceeded"),
    ('pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', "AdmissionRefused"),
    ('admission webhook "policy.example" denied the request: no GPUs at night', "AdmissionRefused"),
    ('pods "a" is forbidden: no PriorityClass with name high was found', "AdmissionRefused"),
    (
        'pods "a" is forbidden: error looking up service account team/runner: serviceaccount "runner" not found',
        "ServiceAccountMissing",
    ),
    ("the server was unable to return a response in the time allotted", "PodsRefused"),
]


@pytest.mark.parametrize(("message", "reason"), REFUSALS)
def test_pods_that_are_not_made_are_explained(message: str, reason: str) -> None:
    found = diagnose_refusal(refusing(message))
    assert found is not None
    assert (found.reason, found.stalled) == (reason, False)
    assert message in found.text


def test_a_refusal_of_what_the_deployment_was_before_is_silent() -> None:
    changed = {**refusing("exceeded quota"), "metadata": {"generation": 2}}
    assert diagnose_refusal(changed) is None


def test_pods_that_stand_still_past_the_deadline_are_named() -> None:
    overdue = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    deployment = {"metadata": {}, "spec": {"progressDeadlineSeconds": 1860}, "status": {"conditions": [overdue]}}
    found = diagnose_standstill(deployment, [pod()], "PreparingPod")
    assert found is not None
    assert found.reason == "Stuck"
    assert "one-abc is not ready after 31 minutes; it is at the step PreparingPod" in found.message
    assert "kubectl describe pod one-abc" in found.remedy
    assert diagnose_standstill({**deployment, "status": {}}, [pod()], "PreparingPod") is None


def test_every_reason_stands_in_the_table_once_and_says_what_it_means() -> None:
    assert len({reason.name for reason in FAILURES}) == len(FAILURES)
    assert all(REASON.fullmatch(reason.name) and reason.meaning.endswith(".") for reason in FAILURES)
    assert all(reason.remedy and not reason.remedy.endswith(".") for reason in FAILURES if reason.name != "Deleted")


def test_no_module_makes_up_a_reason_of_its_own() -> None:
    """Each but the server's own words, which come through the termination log, is a row of the table."""
    found = []
    for path in (ROOT / "operator/src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Diagnosis"
            if named and isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                found.append((path.name, node.args[0].value))
    assert found == []
