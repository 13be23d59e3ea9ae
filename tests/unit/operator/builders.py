"""Manifests and objects for the operator's tests."""

from datetime import UTC, datetime
from typing import Any

from forebay_operator.resources.pod_template.pod_spec import build_pod_spec
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, parse_endpoint
from forebay_operator.status.conditions import assess
from forebay_operator.status.diagnosis import Diagnosis
from forebay_operator.status.observed import Observed
from forebay_operator.status.readiness import find_pod_failure, find_slow_start
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


def ended(code: int, message: str = "", reason: str = "Error") -> Manifest:
    end = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=end)


def gone(reason: str, message: str) -> Manifest:
    evicted = pod()
    return {**evicted, "status": {"phase": "Failed", "reason": reason, "message": message}}


NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def find_status(endpoint: Endpoint, observed: Observed, previous: Manifest, now: datetime) -> Manifest:
    """The status, with the failure that the pods show."""
    return dict(assess(endpoint, observed, find_pod_failure(observed) or find_slow_start(observed), previous, now))


def endpoint_manifest(**spec: Any) -> Manifest:
    metadata = {"namespace": "team", "name": "one", "uid": "u", "generation": 3}
    return {"kind": "InferenceEndpoint", "metadata": metadata, "spec": {"model": "org/model", **spec}}


def deployment(**status: Any) -> Manifest:
    template = {"metadata": {"annotations": {"forebay.dev/revision": "newest"}}}
    return {"metadata": {}, "spec": {"replicas": 1, "template": template}, "status": status}


def refusing() -> Manifest:
    return deployment(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}])


def ready() -> Manifest:
    return pod(conditions=[{"type": "Ready", "status": "True"}], ready=True, state={"running": {}})


def old(one: Manifest) -> Manifest:
    """The pod, as one of a template before."""
    return {**one, "metadata": {**one["metadata"], "annotations": {"forebay.dev/revision": "before"}}}


LOADING: dict[str, Any] = {"state": {"running": {}}}

NOT_OWNED = Diagnosis("NotOwned", "taken", stalled=True)

SCHEDULED = {"type": "PodScheduled", "status": "True"}

SANDBOX = {"type": "PodReadyToStartContainers", "status": "True"}

BAD_FLAG = ended(78, '{"reason": "BadFlag", "message": "no"}')

D = deployment()

STATES = [
    ("nothing yet", 1, Observed(None, []), "Scheduling", "False True False"),
    ("no node yet", 1, Observed(D, [pod()]), "Scheduling", "False True False"),
    ("on a node", 1, Observed(D, [pod(conditions=[SCHEDULED])]), "PreparingPod", "False True False"),
    ("pulling", 1, Observed(D, [pod(conditions=[SCHEDULED, SANDBOX])]), "PullingImage", "False True False"),
    ("loading", 1, Observed(D, [pod(**LOADING)]), "Starting", "False True False"),
    ("no longer answering", 1, Observed(D, [pod(**LOADING, started=True)]), "NotAnswering", "False True False"),
    ("ready", 1, Observed(D, [ready()]), "Ready", "True False False"),
    ("ready beside a dead pod", 1, Observed(D, [ready(), gone("Evicted", "")]), "Ready", "True False False"),
    ("scaling up", 2, Observed(D, [ready(), pod()]), "Updating", "True True False"),
    ("scaling down", 1, Observed(D, [ready(), ready()]), "Updating", "True True False"),
    ("rolling out", 1, Observed(D, [old(ready()), pod()]), "Updating", "True True False"),
    ("change unseen", 1, Observed(D, [old(ready())]), "Updating", "True True False"),
    ("no node", 1, Observed(D, [unscheduled("none")]), "Unschedulable", "False True False"),
    ("bad flag", 1, Observed(D, [BAD_FLAG]), "BadFlag", "False False True"),
    ("bad flag corrected", 1, Observed(D, [old(BAD_FLAG), pod(**LOADING)]), "Starting", "False True False"),
    ("bad flag just corrected", 1, Observed(D, [old(BAD_FLAG)]), "Scheduling", "False True False"),
    ("bad update", 1, Observed(D, [old(ready()), ended(1)]), "Degraded", "True True False"),
    ("bad flag in an update", 1, Observed(D, [old(ready()), BAD_FLAG]), "Degraded", "True False True"),
    ("pods of a dead namesake", 1, Observed(None, [ready()]), "Scheduling", "False True False"),
    ("quota", 1, Observed(refusing(), []), "QuotaExceeded", "False True False"),
    ("name taken", 1, Observed(None, [], NOT_OWNED), "NotOwned", "False False True"),
    ("name taken later", 1, Observed(D, [ready()], NOT_OWNED), "Degraded", "True False True"),
    ("off", 0, Observed(D, []), "ScaledToZero", "True False False"),
    ("going off", 0, Observed(D, [ended(1)]), "ScaledToZero", "False True False"),
    ("held", 0, Observed(D, [], scales=True, gateways=2), "Idle", "True False False"),
    ("going idle", 0, Observed(D, [ready()], scales=True, gateways=1), "Idle", "True True False"),
    ("asleep", 1, Observed(D, [pod(**LOADING, started=True)], asleep=True), "Idle", "True False False"),
    ("about to sleep", 1, Observed(D, [ready()], asleep=True), "Ready", "True False False"),
    ("without a gateway", 0, Observed(D, [], scales=True), "NoGateway", "False True False"),
]
"""A state's name, the replicas wanted, what is observed, and the reason with the status of Ready, Reconciling and
Stalled that it must give."""

SETTINGS = Settings(gpu_image="gpu:1", cpu_image="cpu:1", overlay_image="forebay-server:1")


def pod_spec(**spec: Any) -> dict[str, Any]:
    return build_pod_spec(parse_endpoint(endpoint_manifest(**spec)), SETTINGS)


def container(**spec: Any) -> dict[str, Any]:
    return dict(pod_spec(**spec)["containers"][0])


def env(**spec: Any) -> dict[str, Manifest]:
    return {str(variable["name"]): dict(variable) for variable in container(**spec)["env"]}
