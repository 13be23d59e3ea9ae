"""Provoke what can keep a pod from running, on a real cluster, and keep what Kubernetes says of it.

    .venv/bin/pytest tests/e2e/test_control.py && .venv/bin/python -m tests.e2e.capture [CASE …]

writes tests/unit/operator/data/CASE.json, which tests/unit/operator/test_diagnosis.py replays. Done again for a new
Kubernetes, `git diff` shows which words have changed. The pods are plain ones whose container has the server's name:
that they come from an endpoint makes no difference to what the scheduler, the kubelet and the API server say.
"""

import json
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster import kind, tools
from cluster.pins import ROOT
from forebay_operator.child_names import CONTAINER
from tests.e2e.cluster import NAME as CLUSTER
from tests.e2e.forebay import images
from tests.e2e.standins import stand_in
from tests.kubectl import Kubectl, Manifest, condition, wait_for

DATA = ROOT / "tests/unit/operator/data"
NODE = f"{CLUSTER}-control-plane"
SLEEP = ["sleep", "infinity"]
NIGHT = "forebay-night"
IN_NAMESPACE = {"namespaceSelector": {"matchExpressions": [{"key": NIGHT, "operator": "Exists"}]}}
CLUSTER_WIDE = {
    "PersistentVolume",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
}
ELSEWHERE = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]}


@dataclass(frozen=True)
class Case:
    """One thing to provoke.

    Attributes:
        pod: what the pod's spec has beside its container.
        container: what the container has.
        others: objects that are there before it.
        labels: of its namespace.
        deployed: whether a Deployment makes the pod, and it is the Deployment that is kept.
        event: the reason of the pod's events that are kept with it.
        exec: a command that is run in the pod once it runs.
        told: whether the object says what it is to say.
    """

    pod: Mapping[str, Any] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Manifest, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    deployed: bool = False
    event: str = ""
    exec: tuple[str, ...] = ()
    told: Callable[[Manifest], object] = bool


def unscheduled(found: Manifest) -> bool:
    return condition(found, "PodScheduled").get("status") == "False"


def waiting(*reasons: str) -> Callable[[Manifest], bool]:
    """Whether the container waits for one of these reasons."""
    return lambda found: (_state(found).get("waiting") or {}).get("reason") in reasons


def restarts(found: Manifest) -> int:
    return int((found["status"].get("containerStatuses") or [{}])[0].get("restartCount", 0))


def crashed(found: Manifest) -> bool:
    """Whether the container has ended, and waits to be started again; the kubelet does not always say the latter."""
    return "terminated" in _state(found) or waiting("CrashLoopBackOff")(found)


def failed(found: Manifest) -> bool:
    return bool(found["status"].get("phase") == "Failed")


def refused(found: Manifest) -> bool:
    return condition(found, "ReplicaFailure").get("status") == "True"


def _state(pod: Manifest) -> Manifest:
    return ((pod["status"].get("containerStatuses") or [{}])[0]).get("state") or {}


def mounts(volume: Manifest) -> Mapping[str, Any]:
    """A pod that has a volume."""
    return {"volumes": [{"name": "extra", **volume}]}


def claims(name: str) -> Mapping[str, Any]:
    return mounts({"persistentVolumeClaim": {"claimName": name}})


def claim(name: str, storage_class: str, **spec: Any) -> Manifest:
    size = {"requests": {"storage": "1Gi"}}
    whole = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class, "resources": size, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": whole}


def volume(name: str, storage_class: str) -> Manifest:
    """A volume that only nodes of a zone that is not there have."""
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "hostPath": {"path": "/var/lib/elsewhere"},
        "nodeAffinity": {"required": ELSEWHERE},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def storage_class(name: str) -> Manifest:
    """A class whose volumes nobody makes, and that waits for a pod."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def runtime_class() -> Manifest:
    """A class whose handler no node has."""
    metadata = {"name": "forebay-nvidia"}
    return {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": metadata, "handler": "nvidia"}


def quota(**hard: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}


def limit_range(**limits: Any) -> Manifest:
    spec = {"limits": [{"type": "Container", **limits}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "narrow"}, "spec": spec}


def secret(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"other": "x"}}


def from_secret(name: str, key: str) -> Mapping[str, Any]:
    return {"env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}]}


def night_policy(name: str, selector: Manifest) -> tuple[Manifest, ...]:
    """A policy that lets no pod in that a selector picks."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    spec = {
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "false", "message": "no models at night"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": selector}
    kinds = {"ValidatingAdmissionPolicy": spec, "ValidatingAdmissionPolicyBinding": binding}
    return tuple(
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": what}
        for kind, what in kinds.items()
    )


def webhook() -> Manifest:
    """A webhook that nobody serves, for namespaces with the label."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    one = {
        "name": "policy.forebay.local",
        "clientConfig": {"service": {"namespace": "default", "name": "none", "path": "/"}},
        "rules": rules,
        "namespaceSelector": {"matchExpressions": [{"key": "webhook", "operator": "Exists"}]},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "forebay-none"},
        "webhooks": [one],
    }


PULLING = ("ErrImagePull", "ImagePullBackOff")
ROOT_USER = {"securityContext": {"runAsUser": 0, "runAsNonRoot": True}}
NOT_ANSWERING = {
    "startupProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 5},
    "command": SLEEP,
}
WRITE = ("dd", "if=/dev/zero", "of=/tmp/large", "bs=1M", "count=30")
SCRATCH = mounts({"emptyDir": {}})
AT_TMP = {"volumeMounts": [{"name": "extra", "mountPath": "/tmp"}]}

CASES: dict[str, Case] = {
    "gpu-none": Case(container={"resources": {"limits": {"nvidia.com/gpu": "1"}}}, told=unscheduled),
    "gpu-product-none": Case({"nodeSelector": {"nvidia.com/gpu.product": "H100"}}, told=unscheduled),
    "cpu-none": Case(container={"resources": {"requests": {"cpu": "1k"}}}, told=unscheduled),
    "claim-missing": Case(claims("none"), told=unscheduled),
    "claim-unbound": Case(claims("one"), others=(claim("one", "none"),), told=unscheduled),
    "claim-without-volume": Case(
        claims("one"), others=(storage_class("forebay-manual"), claim("one", "forebay-manual")), told=unscheduled
    ),
    "claim-elsewhere": Case(
        claims("one"),
        others=(
            volume("forebay-elsewhere", "forebay-elsewhere"),
            claim("one", "forebay-elsewhere", volumeName="forebay-elsewhere"),
        ),
        told=unscheduled,
    ),
    "image-not-found": Case(container={"image": "127.0.0.1:5000/absent/model:1"}, told=waiting("ErrImagePull")),
    "image-not-found-again": Case(
        container={"image": "127.0.0.1:5000/absent/model:1"}, told=waiting("ImagePullBackOff")
    ),
    "image-login": Case(container={"image": "127.0.0.1:5000/private/model:1"}, told=waiting(*PULLING)),
    "image-denied": Case(container={"image": "127.0.0.1:5000/denied/model:1"}, told=waiting(*PULLING)),
    "image-too-often": Case(container={"image": "127.0.0.1:5000/busy/model:1"}, told=waiting(*PULLING)),
    "registry-broken": Case(container={"image": "127.0.0.1:5000/broken/model:1"}, told=waiting(*PULLING)),
    "registry-closed": Case(container={"image": "127.0.0.1:5009/none:1"}, told=waiting(*PULLING)),
    "registry-unknown": Case(container={"image": "registry.invalid/none:1"}, told=waiting(*PULLING)),
    "image-never": Case(
        container={"image": "forebay.local/none:1", "imagePullPolicy": "Never"}, told=waiting("ErrImageNeverPull")
    ),
    "image-name-invalid": Case(container={"image": "Not/An:Image:At:All"}, told=waiting("InvalidImageName")),
    "model-image-not-found": Case(
        mounts({"image": {"reference": "127.0.0.1:5000/absent/model:1"}}),
        {"volumeMounts": [{"name": "extra", "mountPath": "/model"}]},
        told=waiting(*PULLING),
    ),
    "secret-missing": Case(container=from_secret("hf", "token"), told=waiting("CreateContainerConfigError")),
    "config-map-missing": Case(
        container={"envFrom": [{"configMapRef": {"name": "settings"}}]}, told=waiting("CreateContainerConfigError")
    ),
    "entry-missing": Case(
        container=from_secret("hf", "token"), others=(secret("hf"),), told=waiting("CreateContainerConfigError")
    ),
    "root-not-allowed": Case(container=ROOT_USER, told=waiting("CreateContainerConfigError")),
    "secret-volume-missing": Case(mounts({"secret": {"secretName": "certificates"}}), AT_TMP, event="FailedMount"),
    "config-map-volume-missing": Case(mounts({"configMap": {"name": "templates"}}), AT_TMP, event="FailedMount"),
    "secret-volume-without-key": Case(
        mounts({"secret": {"secretName": "hf", "items": [{"key": "token", "path": "token"}]}}),
        AT_TMP,
        (secret("hf"),),
        event="FailedMount",
    ),
    "volume-failed": Case(
        mounts({"hostPath": {"path": "/no/such/folder", "type": "Directory"}}), AT_TMP, event="FailedMount"
    ),
    "runtime-missing": Case(
        {"runtimeClassName": "forebay-nvidia"}, others=(runtime_class(),), event="FailedCreatePodSandBox"
    ),
    "no-command": Case(container={"image": "MODEL", "command": None}, told=waiting("CreateContainerError")),
    "command-not-found": Case(container={"command": ["/no/such/program"]}, told=crashed),
    "out-of-memory": Case(
        container={
            "command": ["python3", "-c", "len(bytes([1]) * (200 << 20))"],
            "resources": {"limits": {"memory": "100Mi"}},
        },
        told=crashed,
    ),
    "crash": Case(container={"command": ["python3", "-c", "import no_such_module"]}, told=crashed),
    "crash-again": Case(
        container={"command": ["sh", "-c", "echo out of patience >&2; exit 3"]},
        told=lambda found: crashed(found) and restarts(found) > 1,
    ),
    "start-too-long": Case(container=NOT_ANSWERING, told=restarts),
    "disk-limit": Case(
        SCRATCH,
        {"resources": {"limits": {"ephemeral-storage": "10Mi"}}, "command": SLEEP, **AT_TMP},
        exec=WRITE,
        told=failed,
    ),
    "volume-limit": Case(
        mounts({"emptyDir": {"sizeLimit": "10Mi"}}), {"command": SLEEP, **AT_TMP}, exec=WRITE, told=failed
    ),
    "node-full": Case({"nodeName": NODE}, {"resources": {"requests": {"cpu": "1k"}}}, told=failed),
    "node-not-chosen": Case({"nodeName": NODE, "nodeSelector": {"zone": "b"}}, told=failed),
    "quota-exceeded": Case(others=(quota(pods="0"),), deployed=True, told=refused),
    "quota-needs-limits": Case(others=(quota(**{"limits.memory": "1Gi"}),), deployed=True, told=refused),
    "memory-above-limit-range": Case(
        container={"resources": {"limits": {"memory": "2Gi"}}},
        others=(limit_range(max={"memory": "1Gi"}),),
        deployed=True,
        told=refused,
    ),
    "pod-security": Case(labels={"pod-security.kubernetes.io/enforce": "restricted"}, deployed=True, told=refused),
    "policy": Case(labels={NIGHT: ""}, others=night_policy(NIGHT, IN_NAMESPACE), deployed=True, told=refused),
    "webhook-unreachable": Case(labels={"webhook": ""}, others=(webhook(),), deployed=True, told=refused),
    "priority-class-missing": Case({"priorityClassName": "none"}, deployed=True, told=refused),
    "runtime-class-missing": Case({"runtimeClassName": "none"}, deployed=True, told=refused),
    "service-account-missing": Case({"serviceAccountName": "none"}, deployed=True, told=refused),
}


def main() -> None:
    """Capture all cases, or those that are named."""
    kubectl = Kubectl(tools.host_tools() / "kubectl", kind.kubeconfig(CLUSTER))
    names = sys.argv[1:] or list(CASES)
    node = kubectl.get("node", NODE) or {}
    versions = {key: node["status"]["nodeInfo"][key] for key in ("kubeletVersion", "containerRuntimeVersion")}
    with ExitStack() as around:
        system = around.enter_context(namespace(kubectl, {}))
        around.enter_context(stand_in(system, "registry", "5000", ports=(5000,), on_node=True))
        captures = around.enter_context(ThreadPoolExecutor(8))
        for done in as_completed([captures.submit(capture, kubectl, name, versions) for name in names]):
            print(done.exception() or done.result(), flush=True)


@contextmanager
def namespace(kubectl: Kubectl, labels: Mapping[str, str]) -> Iterator[Kubectl]:
    """A namespace while the context lasts."""
    name = f"capture-{uuid.uuid4().hex[:8]}"
    kubectl.run(
        "create",
        "-f",
        "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
    )
    try:
        yield kubectl.within(name)
    finally:
        kubectl.run("delete", "namespace", name, "--wait=false")


def capture(kubectl: Kubectl, name: str, versions: Manifest) -> str:
    """Keep the object that a case leads to, without what differs from run to run."""
    case = CASES[name]
    with namespace(kubectl, case.labels) as within:
        for other in case.others:
            within.apply(other)
        wait_for(lambda: within.get("serviceaccount", "default"), "pods can be made", timeout=30)
        kind = "deployment" if case.deployed else "pod"
        wanted = build(case)
        within.apply(wanted)
        if case.exec:
            within.run("wait", "pod/one", "--for=condition=Ready", "--timeout=60s")
            within.run("exec", "one", "--", *case.exec)

        def told() -> Manifest | None:
            found = within.get(kind, "one")
            return found if found and found.get("status") and case.told(found) else None

        found = wait_for(told, f"{name} is told", timeout=150)
        kept: dict[str, object] = {kind: prune(found)}
        if case.event:
            events = wait_for(lambda: events_of(within, case.event), case.event, timeout=60)
            kept = {**kept, "events": events}
        for other in case.others:
            if other["kind"] in CLUSTER_WIDE:
                within.run("delete", other["kind"], other["metadata"]["name"], "--wait=false")
    (DATA / f"{name}.json").write_text(json.dumps({**versions, **kept}, indent=1, sort_keys=True) + "\n")
    return name


def build(case: Case) -> Manifest:
    """The pod or the Deployment of a case."""
    made = images()
    plain = {
        "name": CONTAINER,
        "image": made["client"],
        "command": SLEEP,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    container = {key: value for key, value in {**plain, **case.container}.items() if value is not None}
    if container["image"] == "MODEL":
        container["image"] = made["smollm2-135m-instruct"]
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], **case.pod}
    metadata = {"name": "one", "labels": {"app": "one"}}
    if not case.deployed:
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    template = {"metadata": {"labels": {"app": "one"}}, "spec": spec}
    whole = {"replicas": 1, "selector": {"matchLabels": {"app": "one"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": whole}


def events_of(kubectl: Kubectl, reason: str) -> list[Manifest] | None:
    """The events with a reason, without what differs from run to run."""
    found = [each for each in kubectl.list("events") if each["reason"] == reason]
    return [keep(each, "reason", "message", "type", "lastTimestamp", "count") for each in found] or None


def prune(found: Manifest) -> Manifest:
    """What diagnosis reads of a pod or a Deployment."""
    metadata = keep(found["metadata"], "name", "creationTimestamp", "generation")
    status = keep(found["status"], "phase", "reason", "message", "observedGeneration", "containerStatuses")
    kinds = ("type", "status", "reason", "message", "lastTransitionTime")
    status["conditions"] = [keep(one, *kinds) for one in found["status"].get("conditions", [])]
    if found["kind"] == "Deployment":
        return {"metadata": metadata, "spec": keep(found["spec"], "progressDeadlineSeconds"), "status": status}
    for one in status.get("containerStatuses", []):
        one["state"], one["lastState"] = (
            {name: {key: value for key, value in what.items() if key != "containerID"} for name, what in state.items()}
            for state in (one["state"], one["lastState"])
        )
    statuses = [
        keep(one, "name", "image", "ready", "restartCount", "started", "state", "lastState")
        for one in status.pop("containerStatuses", [])
    ]
    container = keep(found["spec"]["containers"][0], "name", "image", "resources", "startupProbe")
    volumes = [one for one in found["spec"].get("volumes", []) if one["name"] == "extra"]
    spec = {"containers": [container], **({"volumes": volumes} if volumes else {})}
    return {"metadata": metadata, "spec": spec, "status": {**status, "containerStatuses": statuses}}


def keep(found: Manifest, *keys: str) -> Manifest:
    return {key: found[key] for key in keys if key in found}


if __name__ == "__main__":
    main()
