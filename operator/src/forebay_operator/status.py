"""What an endpoint's status says: a pure function of what is observed.

Conditions follow kstatus (https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus): Ready answers
whether the endpoint serves, Reconciling whether Forebay or Kubernetes still works on it, Stalled whether only a
user's change helps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from forebay_operator import names
from forebay_operator.diagnosis import Diagnosis, diagnose_pods
from forebay_operator.types import Endpoint, Manifest

MAX_MESSAGE = 32768
"""Characters of a condition's message that the API conventions allow."""


@dataclass(frozen=True)
class Observed:
    """What exists for an endpoint.

    Attributes:
        deployment: its own Deployment, or None.
        pods: all pods that carry its label: those of older revisions, those that leave, even those of a deleted
            endpoint of the same name.
        problem: why the operator could not make what is desired, or None.
        doubtful: one sentence for each variable that is probably misspelt or has no effect.
    """

    deployment: Manifest | None
    pods: Sequence[Manifest]
    problem: Diagnosis | None = None
    doubtful: Sequence[str] = ()

    @property
    def staying(self) -> list[Manifest]:
        """The Deployment's pods that nobody has deleted."""
        if self.deployment is None:
            return []
        return [pod for pod in self.pods if not pod["metadata"].get("deletionTimestamp")]

    @property
    def active(self) -> list[Manifest]:
        """The Deployment's pods that run or will run."""
        return [pod for pod in self.staying if (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded")]

    @property
    def serving(self) -> bool:
        """Whether any pod answers."""
        return any(map(_is_ready, self.active))

    @property
    def stuck_revisions(self) -> frozenset[str]:
        """What the pods that run or will run were made from while none of them answers."""
        return frozenset() if self.serving else frozenset(_revision(pod) or "" for pod in self.active)

    @property
    def newest(self) -> list[Manifest]:
        """The pods that were made from the Deployment's template as it is now, those that ended included."""
        return [pod for pod in self.staying if self.is_newest(pod)]

    def is_newest(self, pod: Manifest) -> bool:
        """Whether a pod was made from the Deployment's template as it is now."""
        return self.deployment is not None and _revision(pod) == _revision(self.deployment["spec"]["template"])


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
    status = {
        "observedGeneration": endpoint.generation,
        "url": endpoint.url,
        "models": list(endpoint.served_names),
        "selector": names.selector_string(endpoint.name),
        **_count(observed, endpoint.replicas),
    }
    conditions = _build_conditions(_judge(endpoint.replicas, observed), endpoint.generation)
    conditions.append(_build_env_condition(observed.doubtful, endpoint.generation))
    return {**status, "conditions": _keep_times(conditions, previous, now)}


def assess_invalid(manifest: Manifest, observed: Observed, now: datetime) -> Manifest:
    """The status of an endpoint that asks for something that cannot work. What ran before still runs."""
    previous, generation = manifest.get("status") or {}, manifest["metadata"].get("generation", 0)
    wanted = (observed.deployment or {}).get("spec", {}).get("replicas", 0)
    kept = {key: previous[key] for key in ("url", "models", "selector") if key in previous}
    conditions = _build_conditions(_judge(wanted, observed), generation)
    status = {**kept, **_count(observed, wanted), "observedGeneration": generation}
    return {**status, "conditions": _keep_times(conditions, previous, now)}


def _judge(wanted: int, observed: Observed) -> _Verdict:
    active, failure = observed.active, observed.problem
    ready = sum(map(_is_ready, active))
    tally = f"{ready} of {wanted} replicas ready"
    if not failure and wanted:
        if len(active) == ready == wanted and all(map(observed.is_newest, active)):
            return _Verdict(True, "Ready", tally)
        failure = _find_refusal(observed.deployment) or diagnose_pods(observed.newest)
    if failure and wanted and ready:
        message = f"{tally}; {failure.reason}: {failure.text}"
        return _Verdict(True, "Degraded", message, not failure.stalled, failure.stalled)
    if failure:
        return _Verdict(False, failure.reason, failure.text, not failure.stalled, failure.stalled)
    if not wanted:
        return _Verdict(False, "ScaledToZero", "spec.replicas is 0, so nothing runs", reconciling=bool(active))
    if ready:
        return _Verdict(True, "Updating", tally, reconciling=True)
    reason, message = _find_step(observed.newest)
    return _Verdict(False, reason, message, reconciling=True)


def _count(observed: Observed, wanted: int) -> dict[str, object]:
    active = observed.active
    ready = sum(map(_is_ready, active))
    return {"ready": f"{ready}/{wanted}", "replicas": len(active), "readyReplicas": ready}


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _revision(thing: Manifest) -> str | None:
    found: str | None = (thing["metadata"].get("annotations") or {}).get(names.REVISION_ANNOTATION)
    return found


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
    for container in status.get("containerStatuses") or ():
        if "running" in (container.get("state") or {}):
            if container.get("started"):
                return 4, "NotAnswering", "the server runs but its readiness probe fails; it may be overloaded"
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
            "message": verdict.message[:MAX_MESSAGE],
            "observedGeneration": generation,
        }

    return [
        condition("Ready", verdict.ready),
        condition("Reconciling", verdict.reconciling),
        condition("Stalled", verdict.stalled),
    ]


def _build_env_condition(doubtful: Sequence[str], generation: int) -> dict[str, object]:
    return {
        "type": "EnvRecognized",
        "status": "False" if doubtful else "True",
        "reason": "Doubtful" if doubtful else "Recognized",
        "message": "; ".join(doubtful)[:MAX_MESSAGE] or "every variable has an effect, as far as the server knows",
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
