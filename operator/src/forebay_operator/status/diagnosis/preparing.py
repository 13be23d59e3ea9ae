"""Diagnoses, from a pod's events, why its node cannot prepare it. Called by readiness.py and the reconciler.

Volumes, network and sandbox come before the first container. While the kubelet fails to create them, the pod's status
has only ContainerCreating, whatever the cause.
"""

from collections.abc import Iterable
from datetime import datetime

from forebay_kube.object_conditions import find_condition, is_true
from forebay_operator.spec import Manifest
from forebay_operator.status.diagnosis import reasons
from forebay_operator.status.diagnosis.reasons import Diagnosis
from forebay_operator.status.diagnosis.wordings import VOLUMES, quote, recognize

PREPARING_GRACE = 10.0
"""Seconds of preparation after which a pod's events are read. Most pods have their volumes in two or three seconds."""

VOLUME_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
SANDBOX_EVENT = "FailedCreatePodSandBox"
"""Reasons of events of the kubelet and of the attach-detach controller (pkg/kubelet/events/event.go)."""

VAGUE = "Unable to attach or mount volumes"
"""The beginning of the kubelet's summary after two minutes. Its earlier events have the cause."""


def find_preparing(pods: Iterable[Manifest]) -> tuple[Manifest, datetime] | None:
    """The pod with a node and without a sandbox that has waited longest, and the time at which it got its node."""
    preparing = [(pod, moment) for pod in pods if (moment := _preparing_since(pod))]
    return min(preparing, key=lambda one: one[1], default=None)


def diagnose_preparation(events: Iterable[Manifest]) -> Diagnosis | None:
    """Diagnose the newest failed attempt to prepare a pod, or return None if none failed."""
    failures = [one for one in events if one.get("reason") in (*VOLUME_EVENTS, SANDBOX_EVENT)]
    failures.sort(key=lambda one: (not str(one.get("message", "")).startswith(VAGUE), _last_seen(one)))
    if not failures:
        return None
    message = str(failures[-1].get("message", ""))
    if failures[-1]["reason"] == SANDBOX_EVENT:
        return reasons.SANDBOX_FAILED.diagnose(quote(message))
    return recognize(VOLUMES, message)


def _preparing_since(pod: Manifest) -> datetime | None:
    status = pod.get("status")
    scheduled = find_condition(status, "PodScheduled")
    prepared = is_true(status, "PodReadyToStartContainers")
    if scheduled.get("status") != "True" or prepared or not scheduled.get("lastTransitionTime"):
        return None
    if (pod["status"].get("phase") or "Pending") != "Pending":
        return None
    return datetime.fromisoformat(scheduled["lastTransitionTime"])


def _last_seen(event: Manifest) -> str:
    """The time of an event's last occurrence, from either of the two event APIs."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
