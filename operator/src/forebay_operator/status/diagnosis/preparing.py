"""Why a pod that has a node gets no further: what the pod's own status does not say, its events do.

Volumes, network and sandbox come before the first container. While the kubelet tries in vain to make them, the status
of the pod has nothing but ContainerCreating, whatever the cause.
"""

from collections.abc import Iterable
from datetime import datetime

from forebay_kube.object_conditions import find_condition, is_true
from forebay_operator.spec import Manifest
from forebay_operator.status.diagnosis import reasons
from forebay_operator.status.diagnosis.reasons import Diagnosis
from forebay_operator.status.diagnosis.wordings import VOLUMES, quote, recognize

PREPARING_GRACE = 10.0
"""Seconds after which a pod that is still being prepared is asked why: most have their volumes in two or three."""

VOLUME_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
SANDBOX_EVENT = "FailedCreatePodSandBox"
"""Reasons of events of the kubelet and of the attach-detach controller (pkg/kubelet/events/event.go)."""

VAGUE = "Unable to attach or mount volumes"
"""How the kubelet sums up, after two minutes, what it has said before with its cause."""


def find_preparing(pods: Iterable[Manifest]) -> tuple[Manifest, datetime] | None:
    """Of the pods that have a node and no sandbox yet, the one that got its node first, with the moment of that."""
    preparing = [(pod, moment) for pod in pods if (moment := _preparing_since(pod))]
    return min(preparing, key=lambda one: one[1], default=None)


def diagnose_preparation(events: Iterable[Manifest]) -> Diagnosis | None:
    """What the newest of a pod's events says of the attempts to prepare it, or None when none failed."""
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
    """When it came last, in the form of either of the two APIs of events."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
