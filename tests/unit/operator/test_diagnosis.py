"""Each check of the diagnosis table against what Kubernetes reports.

CAPTURED replays objects of a real cluster, which tests/e2e/capture.py wrote. The other tables have cases that it cannot
provoke on one node. Their messages come from the source of the component that writes them, or are what an image may
write.
"""

import ast
import json
import time
from typing import Any

import pytest

from cluster.pins import ROOT
from forebay_operator.status.diagnosis import FAILURES, Diagnosis, diagnose_pods, diagnose_refusal, diagnose_standstill
from forebay_operator.status.diagnosis.pod_checks import REASON
from forebay_operator.status.diagnosis.wordings import FORBIDDEN_WORDINGS, recognize
from tests.kubectl import Manifest
from tests.unit.operator.builders import ended, gone, pod, unscheduled
from tests.unit.operator.captured import DATA, read_captured


def waiting(reason: str, message: str) -> Manifest:
    return pod(state={"waiting": {"reason": reason, "message": message}})


def initializing(before: Manifest | None = None, **state: Manifest) -> Manifest:
    """A pod whose init container is in this state. `before` is its state before."""
    starting = pod(state={"waiting": {"reason": "PodInitializing"}})
    status = {"name": "forebay-overlay", "state": state, "lastState": before or {}}
    return {**starting, "status": {**starting["status"], "initContainerStatuses": [status]}}


SAID = json.dumps({"reason": "UnknownFlag", "message": "no flag X", "remedy": "Remove it"})

CAPTURED = [
    ("gpu-none", "Unschedulable", "1 Insufficient nvidia.com/gpu", False),
    ("gpu-product-none", "Unschedulable", "didn't match Pod's node affinity/selector", False),
    ("cpu-none", "Unschedulable", "1 Insufficient cpu", False),
    ("claim-missing", "PVCMissing", 'persistentvolumeclaim "none" not found', False),
    ("claim-unbound", "PVCUnbound", "unbound immediate PersistentVolumeClaims", False),
    ("claim-without-volume", "PVCUnbound", "find available persistent volumes to bind", False),
    ("claim-elsewhere", "VolumeElsewhere", "PersistentVolume's node affinity", False),
    ("image-not-found", "ImageNotFound", "127.0.0.1:5000/absent/model:1: not found", False),
    ("image-not-found-again", "ImageNotFound", "Back-off pulling image", False),
    ("image-login", "ImagePullDenied", "no basic auth credentials", False),
    ("image-denied", "ImagePullDenied", "403 Forbidden", False),
    ("image-too-often", "RegistryUnreachable", "429 Too Many Requests", False),
    ("registry-broken", "RegistryUnreachable", "503 Service Unavailable", False),
    ("registry-closed", "RegistryUnreachable", "connection refused", False),
    ("registry-unknown", "RegistryUnreachable", "no such host", False),
    ("image-never", "ImageNotFound", "not present with pull policy of Never", False),
    ("image-name-invalid", "InvalidImageName", "couldn't parse image name", True),
    ("model-image-not-found", "ImageNotFound", "127.0.0.1:5000/absent/model:1: not found", False),
    ("secret-missing", "SecretMissing", 'secret "hf" not found', False),
    ("config-map-missing", "ConfigMapMissing", 'configmap "settings" not found', False),
    ("entry-missing", "EntryMissing", "couldn't find key token in Secret", False),
    ("root-not-allowed", "ReferenceMissing", "breaks non-root policy", False),
    ("no-command", "ContainerRefused", 'failed to generate container "…" spec', False),
    ("command-not-found", "ContainerRefused", "/no/such/program: no such file or directory", False),
    ("out-of-memory", "OutOfMemory", "the memory limit of 100Mi", False),
    ("crash", "ServerFailed", "No module named 'no_such_module'", False),
    ("crash-again", "ServerFailed", "exit code 3, 3 times now: out of patience", False),
    ("start-too-long", "StartupTimeout", "did not answer within 5 s", False),
    ("disk-limit", "Evicted", "ephemeral local storage usage exceeds the total limit", False),
    ("volume-limit", "Evicted", 'EmptyDir volume "extra" exceeds the limit "10Mi"', False),
    ("node-full", "NodeRefused", "OutOfcpu: Pod was rejected: Node didn't have enough resource", False),
    ("node-not-chosen", "NodeRefused", "NodeAffinity", False),
    ("quota-exceeded", "QuotaExceeded", "exceeded quota: small", False),
    ("quota-needs-limits", "QuotaExceeded", "must specify limits.memory", False),
    ("memory-above-limit-range", "AdmissionRefused", "maximum memory usage per Container is 1Gi", False),
    ("pod-security", "AdmissionRefused", 'violates PodSecurity "restricted:latest"', False),
    ("policy", "AdmissionRefused", "denied request: no models at night", False),
    ("webhook-unreachable", "WebhookFailed", 'service "none" not found', False),
    ("priority-class-missing", "AdmissionRefused", "no PriorityClass with name none", False),
    ("runtime-class-missing", "AdmissionRefused", 'RuntimeClass "none" not found', False),
    ("service-account-missing", "ServiceAccountMissing", 'serviceaccount "none" not found', False),
]
"""A captured object, with the reason, texts of the message, and whether only the user can fix it."""


def diagnose(captured: Manifest) -> Diagnosis | None:
    return diagnose_pods([captured["pod"]]) if "pod" in captured else diagnose_refusal(captured["deployment"])


@pytest.mark.parametrize(("name", "reason", "words", "stalled"), CAPTURED, ids=[row[0] for row in CAPTURED])
def test_captured_messages_of_clusters_are_explained(name: str, reason: str, words: str, stalled: bool) -> None:
    found = diagnose(read_captured(name))
    assert found is not None
    assert (found.reason, found.stalled) == (reason, stalled)
    assert words in found.text


def test_every_captured_object_is_replayed() -> None:
    alone = {path.stem for path in DATA.glob("*.json") if "events" not in read_captured(path.stem)}
    assert alone == {name for name, *_ in CAPTURED}


NODES = "0/3 nodes are available: "
PULL = 'failed to pull and unpack image "registry.example/a:1": failed to resolve reference "registry.example/a:1": '

FAILING = [
    (unscheduled(NODES + "3 node(s) had untolerated taint {a: b}."), "Unschedulable", "untolerated taint", False),
    (
        unscheduled('running PreBind plugin "VolumeBinding": binding volumes: context deadline', "SchedulerError"),
        "PVCUnbound",
        "binding volumes",
        False,
    ),
    (
        # of older versions; "claim-elsewhere" has those of 1.37
        unscheduled(NODES + "3 node(s) had volume node affinity conflict."),
        "VolumeElsewhere",
        "affinity conflict",
        False,
    ),
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
    (waiting("ErrImagePull", 'reading manifest in a.example/m:404: "x"'), "ImagePullFailed", "reading manifest", False),
    (waiting("ImagePullBackOff", "Back-off pulling image x"), "ImagePullFailed", "Back-off pulling image x", False),
    (
        initializing(waiting={"reason": "ErrImagePull", "message": "forebay-server:9: not found"}),
        "ImageNotFound",
        "forebay-server:9: not found",
        False,
    ),
    (
        initializing(terminated={"exitCode": 1, "message": "could not be copied: no space left on device"}),
        "OverlayFailed",
        "no space left on device",
        False,
    ),
    (
        initializing(
            {"terminated": {"exitCode": 1, "message": "could not be copied"}}, waiting={"reason": "CrashLoopBackOff"}
        ),
        "OverlayFailed",
        "could not be copied",
        False,
    ),
    (
        initializing({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: /copy"}}),
        "OverlayFailed",
        "exec: /copy",
        False,
    ),
    (ended(78, SAID), "UnknownFlag", "no flag X. Remove it", True),
    (ended(1, SAID), "UnknownFlag", "no flag X", False),
    (ended(1, "Traceback: last words"), "ServerFailed", "exit code 1: Traceback: last words", False),
    (ended(1, '"a JSON string"'), "ServerFailed", "a JSON string", False),
    (ended(1, '{"other": 1}'), "ServerFailed", '{"other": 1}', False),
    (ended(1, '{"reason": "not a word!"}'), "ServerFailed", "not a word", False),
    (ended(1, '{"reason": "Odd", "message": 5}'), "ServerFailed", '"message": 5', False),
    (gone("Evicted", "The node was low on resource: memory."), "Evicted", "low on resource: memory", False),
    (
        gone("UnexpectedAdmissionError", "Allocate failed due to requested number of devices unavailable"),
        "NodeRefused",
        "devices unavailable",
        False,
    ),
    (gone("Terminated", "Pod was terminated in response to node shutdown."), "EndedByNode", "node shutdown", False),
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
    initializing(running={}),
    initializing({"terminated": {"exitCode": 1}}, terminated={"exitCode": 0}),
    pod(ready=True, state={"running": {}}, lastState={"terminated": {"exitCode": 1}}),
    {"metadata": {"name": "new", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"containers": []}},
]


@pytest.mark.parametrize("fine", FINE)
def test_a_healthy_pod_has_no_diagnosis(fine: Manifest) -> None:
    assert diagnose_pods([fine]) is None


def test_the_newest_failing_pod_gives_the_message() -> None:
    old, new = ended(1, "old"), ended(1, "new")
    new["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    found = diagnose_pods([new, old, pod("2026-01-03T00:00:00Z")])
    assert found is not None
    assert "new" in found.message


def test_a_terminated_pod_is_ignored_once_another_runs() -> None:
    assert diagnose_pods([gone("Evicted", "low on memory"), pod("2025-01-01T00:00:00Z")]) is None


def test_the_digest_of_an_image_stays() -> None:
    found = diagnose_pods([waiting("ErrImagePull", f"registry.example/a@sha256:{'0' * 64}: not found")])
    assert found is not None
    assert f"sha256:{'0' * 64}" in found.message


def test_long_messages_are_cut() -> None:
    found = diagnose_pods([ended(1, "x" * 5000)])
    assert found is not None
    assert len(found.text) < 1200


def test_a_remedy_is_a_separate_sentence() -> None:
    assert Diagnosis("R", "what was seen.", "what to do").text == "what was seen. what to do"


def timed_out(seconds: int, ready_until: str = "2026-01-01T00:00:00Z") -> Manifest:
    """A pod whose startup probe allows 60 s, and whose server was killed after these seconds."""
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


def test_a_start_that_took_too_long_names_its_last_step() -> None:
    found = diagnose_pods([timed_out(65)], {"u/0": "LoadingWeights"})
    assert found is not None
    assert found.reason == "StartupTimeout"
    assert "within 60 s; it was at the step LoadingWeights" in found.message
    silent = diagnose_pods([timed_out(65)])
    assert silent is not None
    assert "step" not in silent.message


@pytest.mark.parametrize("other", [timed_out(30), timed_out(65, ready_until="2026-01-01T00:01:00Z")])
def test_a_server_that_ended_early_or_was_ready_was_not_too_slow(other: Manifest) -> None:
    found = diagnose_pods([other])
    assert found is not None
    assert found.reason == "ServerFailed"


def test_a_crash_loop_reports_its_restarts() -> None:
    looping = ended(1, "last words")
    looping["status"]["containerStatuses"][0]["restartCount"] = 4
    found = diagnose_pods([looping])
    assert found is not None
    assert "exit code 1, 5 times now: last words" in found.message


def refusing(message: str, **spec: Any) -> Manifest:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    return {"metadata": {}, "spec": spec, "status": {"conditions": [condition]}}


REFUSALS = [
    ('admission webhook "policy.example" denied the request: no GPUs at night', "AdmissionRefused"),
    ("the server was unable to return a response in the time allotted", "PodsRefused"),
]


@pytest.mark.parametrize(("message", "reason"), REFUSALS)
def test_pods_that_cannot_be_created_are_explained(message: str, reason: str) -> None:
    found = diagnose_refusal(refusing(message))
    assert found is not None
    assert (found.reason, found.stalled) == (reason, False)
    assert message in found.text


def test_an_error_of_an_earlier_deployment_is_ignored() -> None:
    changed = {**refusing("exceeded quota"), "metadata": {"generation": 2}}
    assert diagnose_refusal(changed) is None


def test_pods_without_progress_past_the_deadline_are_named() -> None:
    overdue = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    deployment = {"metadata": {}, "spec": {"progressDeadlineSeconds": 1860}, "status": {"conditions": [overdue]}}
    found = diagnose_standstill(deployment, [pod()], "PreparingPod")
    assert found is not None
    assert found.reason == "Stuck"
    assert "one-abc is not ready after 31 minutes; it is at the step PreparingPod" in found.message
    assert "kubectl describe pod one-abc" in found.remedy
    assert diagnose_standstill({**deployment, "status": {}}, [pod()], "PreparingPod") is None


def test_every_reason_is_in_the_table_once_with_a_meaning() -> None:
    assert len({reason.name for reason in FAILURES}) == len(FAILURES)
    assert all(REASON.fullmatch(reason.name) and reason.meaning.endswith(".") for reason in FAILURES)
    assert all(reason.remedy and not reason.remedy.endswith(".") for reason in FAILURES if reason.name != "Deleted")


def test_no_module_uses_a_reason_outside_the_table() -> None:
    """Every reason is a row of the table, except those that the server writes to the termination log."""
    found = []
    for path in (ROOT / "operator/src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Diagnosis"
            if named and isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                found.append((path.name, node.args[0].value))
    assert found == []


def test_a_long_text_of_a_user_is_processed_quickly() -> None:
    began = time.process_time()
    diagnosis = recognize(FORBIDDEN_WORDINGS, f"exceeded {'serviceaccount ' + 'a' * 30_000} quota")
    assert (diagnosis.reason, time.process_time() - began < 1) == ("Forbidden", True)
