"""Reasons why a pod's volumes, network or sandbox are missing: from its events, as captured on a cluster, or as in
the source of the programs that write them."""

from datetime import UTC, datetime

import pytest

from forebay_operator.status.diagnosis import diagnose_preparation
from forebay_operator.status.diagnosis.preparing import find_preparing
from tests.kubectl import Manifest
from tests.unit.operator.captured import read_captured

MULTI_ATTACH = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) one-abc'
VAGUE = (
    "Unable to attach or mount volumes: unmounted volumes=[extra], unattached volumes=[], failed to process volumes=[]"
)


def event(message: str, reason: str = "FailedMount", minute: int = 0) -> Manifest:
    return {"reason": reason, "message": message, "lastTimestamp": f"2026-01-01T00:{minute:02}:00Z"}


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("secret-volume-missing", "SecretMissing", 'secret "certificates" not found'),
        ("secret-volume-without-key", "EntryMissing", "references non-existent secret key: token"),
        ("config-map-volume-missing", "ConfigMapMissing", 'configmap "templates" not found'),
        ("volume-failed", "VolumeFailed", "is not a directory"),
        ("runtime-missing", "SandboxFailed", 'for sandbox "…": no runtime for "nvidia" is configured'),
    ],
)
def test_captured_messages_of_clusters_are_explained(name: str, reason: str, words: str) -> None:
    captured = read_captured(name)
    assert find_preparing([captured["pod"]]) is not None
    found = diagnose_preparation(captured["events"])
    assert found is not None
    assert (found.reason, found.stalled) == (reason, False)
    assert words in found.text


def test_a_volume_attached_to_another_node_is_reported() -> None:
    found = diagnose_preparation([event(MULTI_ATTACH, "FailedAttachVolume")])
    assert found is not None
    assert found.reason == "VolumeInUse"


def test_the_newest_event_with_a_specific_cause_is_used() -> None:
    old, new = event('secret "old" not found'), event('secret "new" not found', minute=1)
    found = diagnose_preparation([event(VAGUE, minute=2), new, old, event("Pulling image", "Pulling", minute=3)])
    assert found is not None
    assert 'secret "new" not found' in found.message
    vague = diagnose_preparation([event(VAGUE)])
    assert vague is not None
    assert (vague.reason, vague.message) == ("VolumeFailed", VAGUE)
    assert diagnose_preparation([event("Pulling image", "Pulling")]) is None


def pod(scheduled: str = "True", prepared: str = "False", minute: int = 0, phase: str = "Pending") -> Manifest:
    moment = f"2026-01-01T00:{minute:02}:00Z"
    conditions = [
        {"type": "PodScheduled", "status": scheduled, "lastTransitionTime": moment},
        {"type": "PodReadyToStartContainers", "status": prepared, "lastTransitionTime": moment},
    ]
    return {"metadata": {"name": f"at-{minute}"}, "status": {"phase": phase, "conditions": conditions}}


def test_the_pod_that_waits_longest_for_its_volumes_is_inspected() -> None:
    found = find_preparing([pod(minute=2), pod(minute=1), pod("False"), pod(prepared="True"), pod(phase="Failed")])
    assert found is not None
    assert (found[0]["metadata"]["name"], found[1]) == ("at-1", datetime(2026, 1, 1, 0, 1, tzinfo=UTC))
    assert find_preparing([pod("False"), pod(prepared="True"), {"metadata": {"name": "new"}}]) is None
