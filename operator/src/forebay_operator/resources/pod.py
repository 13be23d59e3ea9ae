"""The pod of one replica: a vLLM server that runs under the restricted Pod Security Standard."""

from typing import Any

from forebay_operator import names
from forebay_operator.settings import Settings
from forebay_operator.types import SERVED_NAME_VARIABLES, Endpoint, Manifest

PRE_STOP_SLEEP = 5
"""Seconds that a pod serves on while Kubernetes takes it out of rotation."""

DRAIN_TIMEOUT = 300
"""Seconds that running streams have to finish after SIGTERM."""

STARTUP_TIMEOUT = 30 * 60
"""Seconds from the start of the container to the first answer of the model."""

STARTUP_PERIOD = 2
MODEL_MOUNT = "/model"
KEYS_MOUNT = "/run/forebay/keys"
USER, GROUP = 2000, 0
"""The user and group that vLLM's official images are made for."""


def build_pod_spec(endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    """The spec of the Deployment's pod template."""
    volumes, mounts = _build_volumes(endpoint, settings)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_SLEEP + DRAIN_TIMEOUT + 15,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": GROUP,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_build_container(endpoint, settings, mounts)],
        "volumes": volumes,
    }
    if endpoint.gpu.count:
        spec["tolerations"] = [{"key": endpoint.gpu.resource, "operator": "Exists", "effect": "NoSchedule"}]
    return spec


def _build_container(endpoint: Endpoint, settings: Settings, mounts: list[Manifest]) -> dict[str, Any]:
    default_image = settings.gpu_image if endpoint.gpu.count else settings.cpu_image
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": endpoint.image or default_image,
        "imagePullPolicy": settings.pull_policy,
        "ports": [
            {"name": "http", "containerPort": names.API_PORT, "protocol": "TCP"},
            {"name": "ops", "containerPort": names.OPS_PORT, "protocol": "TCP"},
        ],
        "env": build_env(endpoint),
        "resources": _build_resources(endpoint),
        "startupProbe": _probe("/startupz", period=STARTUP_PERIOD, failures=STARTUP_TIMEOUT // STARTUP_PERIOD),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SLEEP}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if endpoint.env_from:
        container["envFrom"] = list(endpoint.env_from)
    return container


def build_env(endpoint: Endpoint) -> list[Manifest]:
    """The container's variables: ours first, then the user's, which replace those of ours that are mere defaults."""
    fixed = {
        "FOREBAY_ENDPOINT": endpoint.name,
        "FOREBAY_AUTH": endpoint.auth.mode,
        "FOREBAY_KEYS_DIR": KEYS_MOUNT,
        "FOREBAY_DRAIN_SECONDS": str(DRAIN_TIMEOUT),
        "MODEL_NAME": MODEL_MOUNT if endpoint.model.kind == "image" else endpoint.model.source,
    }
    users = {variable["name"]: variable for variable in endpoint.env}
    defaults = {}
    if endpoint.model.kind != "hub" and not any(name in users for name in SERVED_NAME_VARIABLES):
        defaults[SERVED_NAME_VARIABLES[0]] = endpoint.name
    if endpoint.gpu.count > 1:
        defaults["TENSOR_PARALLEL_SIZE"] = str(endpoint.gpu.count)
    ours = {name: {"name": name, "value": value} for name, value in (fixed | defaults).items()}
    return list((ours | users).values())


def _build_resources(endpoint: Endpoint) -> dict[str, Any]:
    requests = dict(endpoint.resources.get("requests") or {})
    limits = dict(endpoint.resources.get("limits") or {})
    if endpoint.gpu.count:
        limits[endpoint.gpu.resource] = requests[endpoint.gpu.resource] = str(endpoint.gpu.count)
    return {kind: values for kind, values in (("requests", requests), ("limits", limits)) if values}


def _build_volumes(endpoint: Endpoint, settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and their mounts; all that is writable under a read-only root is here."""
    volumes: list[Manifest] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "cache", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts: list[Manifest] = [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "cache", "mountPath": "/cache"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    if endpoint.auth.mode == "APIKey":
        secret = endpoint.auth.secret_name or names.key_secret_name(endpoint.name)
        volumes.append({"name": "keys", "secret": {"secretName": secret}})
        mounts.append({"name": "keys", "mountPath": KEYS_MOUNT, "readOnly": True})
    if endpoint.model.kind == "image":
        image = {"reference": endpoint.model.source, "pullPolicy": settings.pull_policy}
        volumes.append({"name": "model", "image": image})
        mounts.append({"name": "model", "mountPath": MODEL_MOUNT, "readOnly": True})
    return volumes, mounts


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    """A probe of the ops port. Two seconds is long for an answer that is a flag in memory, even on a busy node."""
    return {
        "httpGet": {"path": path, "port": "ops"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
