"""Diagnoses, from the Deployment's status, why Kubernetes creates no pods or a roll-out stands still.

readiness.py calls it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from forebay_kube.object_conditions import find_condition
from forebay_operator.spec import Manifest
from forebay_operator.status.diagnosis import reasons
from forebay_operator.status.diagnosis.reasons import Diagnosis
from forebay_operator.status.diagnosis.wordings import REFUSALS, recognize


def diagnose_refusal(deployment: Manifest | None) -> Diagnosis | None:
    """Diagnose why no pods are created, such as because of a quota. The message has the API server's words."""
    condition = _find(deployment, "ReplicaFailure")
    return recognize(REFUSALS, str(condition.get("message", ""))) if condition.get("status") == "True" else None


def diagnose_standstill(deployment: Manifest | None, pods: Iterable[Manifest], step: str) -> Diagnosis | None:
    """Diagnose pods that are past the Deployment's progress deadline. `step`: the step of the furthest pod."""
    condition = _find(deployment, "Progressing")
    newest_pod = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
    if newest_pod is None or condition.get("reason") != "ProgressDeadlineExceeded":
        return None
    name = newest_pod["metadata"]["name"]
    minutes = round((deployment or {})["spec"].get("progressDeadlineSeconds", 600) / 60)
    message = f"the pod {name} is not ready after {minutes} minutes; it is at the step {step}"
    return reasons.STUCK.diagnose(message, pod=name)


def is_behind(deployment: Manifest | None) -> bool:
    """Whether the Deployment's controller has not seen its current spec yet, so that its conditions are outdated."""
    if deployment is None:
        return False
    observed = (deployment.get("status") or {}).get("observedGeneration", 0)
    return bool(observed < deployment["metadata"].get("generation", 0))


def replaces(deployment: Manifest | None) -> bool:
    """Whether a roll-out ends an old pod before the new one exists."""
    strategy = (deployment or {}).get("spec", {}).get("strategy") or {}
    return (strategy.get("rollingUpdate") or {}).get("maxSurge") in (0, "0", "0%")


def _find(deployment: Manifest | None, kind: str) -> Mapping[str, Any]:
    if is_behind(deployment):
        return {}
    return find_condition((deployment or {}).get("status"), kind)
