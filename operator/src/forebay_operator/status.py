"""What an endpoint's status says: a pure function of what is observed.

Conditions follow kstatus (https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus): Ready answers
whether the endpoint serves, Reconciling whether Forebay or Kubernetes still works on it, Stalled whether only a
user's change helps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from forebay_operator import names
from forebay_operator.diagnosis import Diagnosis, diagnose_pods
from forebay_operator.types import Endpoint, Manifest


@dataclass(frozen=True)
class Observed:
    """What exists for an endpoint.

    Attributes:
        deployment: its Deployment, or None.
        pods: its pods, those that are being deleted included.
        problem: why the operator could not make what is desired, or None.
        unrecognized: one sentence for each variable that is probably misspelt.
    """

    deployment: Manifest | None
    pods: Sequence[Manifest]
    problem: Diagnosis | None = None
    unrecognized: Sequence[str] = ()


@dataclass(frozen=True)
class _Verdict:
    """The conditions in short: Ready's status, reason and message, and whether work goes on or cannot."""

    ready: bool
    reason: str
    message: str
    reconciling: bool = False
    stalled: bool = False


def assess(endpoint: Endpoint, observed: Observed, previous: Manifest, now: datetime) -> Manifest:
    """The status of an endpoint that was understood. `previous` is the status before, for the transition times."""
    counts: Manifest = (observed.deployment or {}).get("status") or {}
    ready = counts.get("readyReplicas", 0)
    status = {
        "observedGeneration": endpoint.generation,
        "url": endpoint.url,
        "models": [endpoint.served_name] if endpoint.served_name else [],
        "ready": f"{ready}/{endpoint.replicas}",
        "replicas": counts.get("replicas", 0),
        "readyReplicas": ready,
        "selector": names.selector_string(endpoint.name),
    }
    conditions = _build_conditions(_judge(endpoint, observed), endpoint.generation)
    conditions.append(_build_env_condition(observed.unrecognized, endpoint.generation))
    return {**status, "conditions": _keep_times(conditions, previous, now)}


def assess_invalid(generation: int, problems: Iterable[str], previous: Manifest, now: datetime) -> Manifest:
    """The status of an endpoint that asks for something that cannot work. What ran before still runs."""
    verdict = _Verdict(False, "InvalidSpec", "; ".join(problems), stalled=True)
    kept = {
        key: previous[key]
        for key in ("url", "models", "ready", "replicas", "readyReplicas", "selector")
        if key in previous
    }
    conditions = _keep_times(_build_conditions(verdict, generation), previous, now)
    return {**kept, "observedGeneration": generation, "conditions": conditions}


def _judge(endpoint: Endpoint, observed: Observed) -> _Verdict:
    deployment, pods = (
        observed.deployment,
        [pod for pod in observed.pods if not pod["metadata"].get("deletionTimestamp")],
    )
    counts: Manifest = (deployment or {}).get("status") or {}
    ready, wanted = counts.get("readyReplicas", 0), endpoint.replicas
    tally = f"{ready} of {wanted} replicas ready"
    failure = observed.problem
    if wanted and not failure:
        failure = _find_refusal(deployment) or diagnose_pods(pods)
    if failure and wanted and ready:
        message = f"{tally}; {failure.reason}: {failure.text}"
        return _Verdict(True, "Degraded", message, not failure.stalled, failure.stalled)
    if failure:
        return _Verdict(False, failure.reason, failure.text, not failure.stalled, failure.stalled)
    if not wanted:
        remaining = counts.get("replicas", 0)
        return _Verdict(False, "ScaledToZero", "spec.replicas is 0, so nothing runs", reconciling=remaining > 0)
    if ready and _is_settled(deployment, wanted):
        return _Verdict(True, "Ready", tally)
    if ready:
        return _Verdict(True, "Updating", tally, reconciling=True)
    reason, message = _find_step(pods)
    return _Verdict(False, reason, message, reconciling=True)


def _is_settled(deployment: Manifest | None, wanted: int) -> bool:
    """Whether exactly the pods that are wanted run, all of the newest revision, all ready."""
    if not deployment:
        return False
    counts = deployment.get("status") or {}
    if counts.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return False
    return all(counts.get(key, 0) == wanted for key in ("replicas", "updatedReplicas", "readyReplicas"))


def _find_refusal(deployment: Manifest | None) -> Diagnosis | None:
    """Why Kubernetes makes no pods, such as a quota or an admission policy, in its own words."""
    for condition in ((deployment or {}).get("status") or {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            remedy = "Raise the quota, or change what the admission policy of the namespace refuses"
            return Diagnosis("PodsRefused", condition.get("message", ""), remedy)
    return None


def _find_step(pods: Sequence[Manifest]) -> tuple[str, str]:
    """How far the pod that is furthest along has come: reason and message."""
    return max((_step_of(pod) for pod in pods), default=(0, "Scheduling", "pods are being made"))[1:]


def _step_of(pod: Manifest) -> tuple[int, str, str]:
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions") or ()}
    running = any("running" in (container.get("state") or {}) for container in status.get("containerStatuses") or ())
    if running:
        return 3, "Starting", "the server is loading the model"
    if conditions.get("PodReadyToStartContainers") == "True":
        return 2, "PullingImage", "the node is pulling the images"
    if conditions.get("PodScheduled") == "True":
        return 1, "PreparingPod", "the node is preparing volumes and network"
    return 0, "Scheduling", "a node is being chosen"


def _build_conditions(verdict: _Verdict, generation: int) -> list[dict[str, object]]:
    def condition(kind: str, value: bool) -> dict[str, object]:
        return {
            "type": kind,
            "status": "True" if value else "False",
            "reason": verdict.reason,
            "message": verdict.message,
            "observedGeneration": generation,
        }

    return [
        condition("Ready", verdict.ready),
        condition("Reconciling", verdict.reconciling),
        condition("Stalled", verdict.stalled),
    ]


def _build_env_condition(unrecognized: Sequence[str], generation: int) -> dict[str, object]:
    return {
        "type": "EnvRecognized",
        "status": "False" if unrecognized else "True",
        "reason": "ProbablyMisspelt" if unrecognized else "Recognized",
        "message": "; ".join(unrecognized) or "no variable looks misspelt",
        "observedGeneration": generation,
    }


def _keep_times(conditions: list[dict[str, object]], previous: Manifest, now: datetime) -> list[dict[str, object]]:
    """Give each condition its transition time: the former one while its status stays the same."""
    before = {condition["type"]: condition for condition in previous.get("conditions") or ()}
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for condition in conditions:
        former = before.get(condition["type"], {})
        same = former.get("status") == condition["status"]
        condition["lastTransitionTime"] = former["lastTransitionTime"] if same else stamp
    return conditions
