"""Decides whether an endpoint is Ready, Reconciling or Stalled, from its observed state. Called by conditions.py.

The conditions follow kstatus (https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus). Ready: the
endpoint answers, or is off as its user wants. Reconciling: Forebay or Kubernetes still works on it. Stalled: only a
user's change helps.

An endpoint that is switched off is Ready, as a Deployment with no replicas is Available: a tool that waits for Ready
must not wait forever. ModelLoaded is a condition of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay_kube.object_conditions import find_condition
from forebay_operator.spec import Gpu, Manifest
from forebay_operator.status.diagnosis import (
    Diagnosis,
    diagnose_pods,
    diagnose_preparation,
    diagnose_refusal,
    diagnose_standstill,
    explain_end,
)
from forebay_operator.status.diagnosis.gpus import add_nodes
from forebay_operator.status.diagnosis.pod_checks import has_ended
from forebay_operator.status.diagnosis.reasons import GPUS_TAKEN, NO_GATEWAY, QUOTA_EXCEEDED, UNSCHEDULABLE
from forebay_operator.status.diagnosis.rollout import replaces
from forebay_operator.status.observed import Observed
from forebay_operator.status.start_progress import FIRST_SERVER_STAGE, SERVER_STEPS, Stage, find_furthest

NO_SPARE_ROOM = frozenset({UNSCHEDULABLE.name, GPUS_TAKEN.name, QUOTA_EXCEEDED.name})
"""Failures of a new pod that would not happen if an old pod ended first."""

STATES: Mapping[str, str] = {
    "Pending": "No operator has looked at the endpoint yet.",
    "Ready": "All replicas answer, and all of them run the current spec.",
    "Updating": "Replicas answer while others start or stop: after a change, a new number of replicas or a lost pod.",
    "Degraded": "Replicas answer, but others or an update fail. The message has a reason from below and what to do.",
    "Suspended": "spec.suspend is true. No pods run, and everything else stays.",
    "ScaledToZero": "spec.replicas is 0, without spec.scaling. No pods run, and requests do not start pods.",
    "Idle": "Scaled to zero, or asleep. The gateway holds the next request until a server is started or woken for it.",
    "Scheduling": "Kubernetes is choosing a node for the first pod.",
    "PreparingPod": "The node is preparing the pod's volumes and network.",
    "PullingImage": "The node is pulling images: of vLLM, of Forebay's server and, for oci://, of the model.",
    "Starting": "The server is running and loads the model. It has not reported a step yet.",
    "Importing": "The server is importing vLLM.",
    "Downloading": "The server is downloading the model. status.startup has percent, bytes a second and seconds left.",
    "LoadingWeights": "The server is loading the weights.",
    "Compiling": "vLLM is compiling kernels and capturing graphs.",
    "WarmingUp": "The model is answering a first request from the server itself.",
    "NotAnswering": "The server has started and fails its readiness probe. It is draining, overloaded or unhealthy.",
}
"""Reasons of the Ready condition that are no failure, with their meaning; in the order of docs/troubleshooting.md."""

STEPS = frozenset(list(STATES)[list(STATES).index("Scheduling") : list(STATES).index("NotAnswering")])
"""The reasons of a start in progress."""


@dataclass(frozen=True)
class Readiness:
    """Ready's status, reason and message, and the status of Reconciling and of Stalled.

    `progress` is the content of status.startup. It is empty unless a start is in progress and no pod is ready.
    """

    ready: bool
    reason: str
    message: str
    reconciling: bool = False
    stalled: bool = False
    progress: Mapping[str, object] = field(default_factory=dict)


def compute_readiness(
    wanted: int,
    observed: Observed,
    failure: Diagnosis | None = None,
    *,
    suspended: bool = False,
    gpu: Gpu | None = None,
    before: Manifest | None = None,
) -> Readiness:
    """Compute the readiness of an endpoint.

    Args:
        wanted: the number of replicas that should run.
        failure: the reason why pods do not serve; see `find_pod_failure` and `find_slow_start`.
        gpu: the GPUs of one replica.
        before: the status until now.
    """
    ready = len(observed.ready)
    tally = f"{ready} of {wanted} replicas ready"
    if wanted and not observed.error and _is_complete(wanted, observed):
        return Readiness(True, "Ready", tally)
    if wanted and observed.asleep and not ready and not observed.error:
        return Readiness(True, "Idle", "the engine sleeps: a request wakes it")
    failure = observed.error or (_add_nodes(failure, observed, gpu) if wanted else None)
    if failure and wanted and ready:
        message = f"{_describe_rest(observed, tally)}: {failure.reason}: {failure.text}{_advise(observed, failure)}"
        return Readiness(True, "Degraded", message, not failure.stalled, failure.stalled)
    if failure:
        return Readiness(False, failure.reason, failure.text, not failure.stalled, failure.stalled)
    if not wanted:
        return _readiness_at_zero(observed, suspended)
    if ready:
        return Readiness(True, "Updating", tally, reconciling=True)
    return _readiness_of_start(observed, before or {})


def find_pod_failure(observed: Observed) -> Diagnosis | None:
    """Find the failure that the Deployment or the pods of the current revision report, or None."""
    steps = {run: report.step for run, report in observed.reports.items()}
    return diagnose_refusal(observed.deployment) or diagnose_pods(observed.current_pods, steps)


def find_slow_start(observed: Observed) -> Diagnosis | None:
    """Find out, from events or the Deployment's deadline, why pods that report no failure do not serve."""
    current_pods = observed.current_pods
    if preparation := diagnose_preparation(observed.events):
        return preparation
    if any(pod in observed.ready for pod in current_pods):
        return None
    running = [pod for pod in current_pods if not has_ended(pod)]
    stage = find_furthest(running, observed.reports)
    return diagnose_standstill(observed.deployment, running, stage.step)


def _add_nodes(failure: Diagnosis | None, observed: Observed, gpu: Gpu | None) -> Diagnosis | None:
    """Add the nodes' GPUs to a failure, if the nodes were read."""
    if failure is None or gpu is None or observed.nodes is None:
        return failure
    nodes = (pod["spec"].get("nodeName", "") for pod in reversed(observed.current_pods))
    return add_nodes(failure, gpu, observed.nodes, next(filter(None, nodes), ""))


def _is_complete(wanted: int, observed: Observed) -> bool:
    active = observed.active
    return len(active) == len(observed.ready) == wanted and all(map(observed.is_current_revision, active))


def _readiness_at_zero(observed: Observed, suspended: bool) -> Readiness:
    left = len(observed.active)
    if observed.scales and not suspended:
        if not observed.gateways:
            diagnosis = NO_GATEWAY.diagnose("the endpoint is scaled to zero and no gateway is ready to hold requests")
            return Readiness(False, diagnosis.reason, diagnosis.text, reconciling=True)
        message = (
            f"scaled to zero: {left} pods are shutting down" if left else "scaled to zero: a request starts a server"
        )
        return Readiness(True, "Idle", message, reconciling=bool(left))
    reason, cause = ("Suspended", "spec.suspend is true") if suspended else ("ScaledToZero", "spec.replicas is 0")
    message = f"{cause}: {left} pods are shutting down" if left else f"{cause}, so nothing runs"
    return Readiness(not left, reason, message, reconciling=bool(left))


def _readiness_of_start(observed: Observed, before: Manifest) -> Readiness:
    current_pods = observed.current_pods
    stage = find_furthest([pod for pod in current_pods if not has_ended(pod)], observed.reports)
    if stage.step == "Starting" and not observed.reports:
        # an operator that has just started has no reports yet; the status from its predecessor is more precise
        stage = _stage_from_status(before) or stage
    ended = max(
        filter(has_ended, current_pods), key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None
    )
    cause = explain_end(ended) if ended else ""
    message = f"{stage.message}; the pod before ended: {cause}" if cause else stage.message
    progress = {"step": stage.step, **stage.progress}
    return Readiness(False, stage.step, message, reconciling=True, progress=progress)


def _stage_from_status(status: Manifest) -> Stage | None:
    """The stage that a status names, or None if it is not one that a server reported."""
    startup = dict(status.get("startup") or {})
    step = startup.pop("step", "")
    message = find_condition(status, "Ready").get("message", "")
    return (
        Stage(FIRST_SERVER_STAGE, step, message.partition("; the pod before")[0], startup)
        if step in SERVER_STEPS
        else None
    )


def _describe_rest(observed: Observed, tally: str) -> str:
    """Describe the replicas of the previous revision, or the other ones of the current revision, that still serve."""
    if all(map(observed.is_current_revision, observed.ready)):
        return tally
    if replaces(observed.deployment):
        return f"{tally}, of the previous revision; the rollout stopped at the first pod of the new one, which fails"
    return f"{tally}, of the previous revision; the new one fails"


def _advise(observed: Observed, failure: Diagnosis) -> str:
    if all(map(observed.is_current_revision, observed.ready)) or observed.error:
        return ""
    if failure.reason in NO_SPARE_ROOM and not replaces(observed.deployment):
        return (
            ". If there is no room for one more pod, set spec.rollout.strategy: Replace, which stops an old pod first"
        )
    return ". To roll back, undo the change: the old pods stay as they are"
