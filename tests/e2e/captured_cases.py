"""The states of a cluster to capture: a case for each diagnosis."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.cluster import NAME as CLUSTER
from tests.kubectl import Manifest, condition

NODE = f"{CLUSTER}-control-plane"

SLEEP = ["sleep", "infinity"]

NIGHT = "forebay-night"

IN_NAMESPACE = {"namespaceSelector": {"matchExpressions": [{"key": NIGHT, "operator": "Exists"}]}}

ELSEWHERE = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]}


@dataclass(frozen=True)
class Case:
    """One thing to provoke.

    Attributes:
        pod: the fields of the pod's spec other than its container.
        container: the fields of the container.
        others: objects that exist before it.
        labels: of its namespace.
        deployed: whether a Deployment creates the pod and is stored instead of the pod.
        event: the reason of the pod's events that are stored with it.
        exec: a command that is run in the pod once it runs.
        shows: whether the object shows the failure.
    """

    pod: Mapping[str, Any] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Manifest, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    deployed: bool = False
    event: str = ""
    exec: tuple[str, ...] = ()
    shows: Callable[[Manifest], object] = bool


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
    """A class without a provisioner, which waits for a pod."""
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
    """A webhook without a server, for namespaces with the label."""
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
    "gpu-none": Case(container={"resources": {"limits": {"nvidia.com/gpu": "1"}}}, shows=unscheduled),
    "gpu-product-none": Case({"nodeSelector": {"nvidia.com/gpu.product": "H100"}}, shows=unscheduled),
    "cpu-none": Case(container={"resources": {"requests": {"cpu": "1k"}}}, shows=unscheduled),
    "claim-missing": Case(claims("none"), shows=unscheduled),
    "claim-unbound": Case(claims("one"), others=(claim("one", "none"),), shows=unscheduled),
    "claim-without-volume": Case(
        claims("one"), others=(storage_class("forebay-manual"), claim("one", "forebay-manual")), shows=unscheduled
    ),
    "claim-elsewhere": Case(
        claims("one"),
        others=(
            volume("forebay-elsewhere", "forebay-elsewhere"),
            claim("one", "forebay-elsewhere", volumeName="forebay-elsewhere"),
        ),
        shows=unscheduled,
    ),
    "image-not-found": Case(container={"image": "127.0.0.1:5000/absent/model:1"}, shows=waiting("ErrImagePull")),
    "image-not-found-again": Case(
        container={"image": "127.0.0.1:5000/absent/model:1"}, shows=waiting("ImagePullBackOff")
    ),
    "image-login": Case(container={"image": "127.0.0.1:5000/private/model:1"}, shows=waiting(*PULLING)),
    "image-denied": Case(container={"image": "127.0.0.1:5000/denied/model:1"}, shows=waiting(*PULLING)),
    "image-too-often": Case(container={"image": "127.0.0.1:5000/busy/model:1"}, shows=waiting(*PULLING)),
    "registry-broken": Case(container={"image": "127.0.0.1:5000/broken/model:1"}, shows=waiting(*PULLING)),
    "registry-closed": Case(container={"image": "127.0.0.1:5009/none:1"}, shows=waiting(*PULLING)),
    "registry-unknown": Case(container={"image": "registry.invalid/none:1"}, shows=waiting(*PULLING)),
    "image-never": Case(
        container={"image": "forebay.local/none:1", "imagePullPolicy": "Never"},
        shows=waiting("ErrImageNeverPull"),
    ),
    "image-name-invalid": Case(container={"image": "Not/An:Image:At:All"}, shows=waiting("InvalidImageName")),
    "model-image-not-found": Case(
        mounts({"image": {"reference": "127.0.0.1:5000/absent/model:1"}}),
        {"volumeMounts": [{"name": "extra", "mountPath": "/model"}]},
        shows=waiting(*PULLING),
    ),
    "secret-missing": Case(container=from_secret("hf", "token"), shows=waiting("CreateContainerConfigError")),
    "config-map-missing": Case(
        container={"envFrom": [{"configMapRef": {"name": "settings"}}]},
        shows=waiting("CreateContainerConfigError"),
    ),
    "entry-missing": Case(
        container=from_secret("hf", "token"), others=(secret("hf"),), shows=waiting("CreateContainerConfigError")
    ),
    "root-not-allowed": Case(container=ROOT_USER, shows=waiting("CreateContainerConfigError")),
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
    "no-command": Case(container={"image": "MODEL", "command": None}, shows=waiting("CreateContainerError")),
    "command-not-found": Case(container={"command": ["/no/such/program"]}, shows=crashed),
    "out-of-memory": Case(
        container={
            "command": ["python3", "-c", "len(bytes([1]) * (200 << 20))"],
            "resources": {"limits": {"memory": "100Mi"}},
        },
        shows=crashed,
    ),
    "crash": Case(container={"command": ["python3", "-c", "import no_such_module"]}, shows=crashed),
    "crash-again": Case(
        container={"command": ["sh", "-c", "echo out of patience >&2; exit 3"]},
        shows=lambda found: crashed(found) and restarts(found) > 1,
    ),
    "start-too-long": Case(container=NOT_ANSWERING, shows=restarts),
    "disk-limit": Case(
        SCRATCH,
        {"resources": {"limits": {"ephemeral-storage": "10Mi"}}, "command": SLEEP, **AT_TMP},
        exec=WRITE,
        shows=failed,
    ),
    "volume-limit": Case(
        mounts({"emptyDir": {"sizeLimit": "10Mi"}}), {"command": SLEEP, **AT_TMP}, exec=WRITE, shows=failed
    ),
    "node-full": Case({"nodeName": NODE}, {"resources": {"requests": {"cpu": "1k"}}}, shows=failed),
    "node-not-chosen": Case({"nodeName": NODE, "nodeSelector": {"zone": "b"}}, shows=failed),
    "quota-exceeded": Case(others=(quota(pods="0"),), deployed=True, shows=refused),
    "quota-needs-limits": Case(others=(quota(**{"limits.memory": "1Gi"}),), deployed=True, shows=refused),
    "memory-above-limit-range": Case(
        container={"resources": {"limits": {"memory": "2Gi"}}},
        others=(limit_range(max={"memory": "1Gi"}),),
        deployed=True,
        shows=refused,
    ),
    "pod-security": Case(labels={"pod-security.kubernetes.io/enforce": "restricted"}, deployed=True, shows=refused),
    "policy": Case(labels={NIGHT: ""}, others=night_policy(NIGHT, IN_NAMESPACE), deployed=True, shows=refused),
    "webhook-unreachable": Case(labels={"webhook": ""}, others=(webhook(),), deployed=True, shows=refused),
    "priority-class-missing": Case({"priorityClassName": "none"}, deployed=True, shows=refused),
    "runtime-class-missing": Case({"runtimeClassName": "none"}, deployed=True, shows=refused),
    "service-account-missing": Case({"serviceAccountName": "none"}, deployed=True, shows=refused),
}
