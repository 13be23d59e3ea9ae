"""Builds the pod of one replica: a vLLM server that runs under the restricted Pod Security Standard.

deployment.py calls it.
"""

import json
from typing import Any

from forebay_operator import labels
from forebay_operator.resources.pod_template.mounts import KEYS_MOUNT, MODEL_MOUNT
from forebay_operator.resources.pod_template.overlay import build_init_containers, build_overlay_env, build_start
from forebay_operator.resources.pod_template.parallelism import TENSOR_PARALLEL_SIZE, find_tensor_parallel_size
from forebay_operator.resources.pod_template.volumes import build_lora_modules, build_volumes
from forebay_operator.settings import Settings
from forebay_operator.spec import PRODUCT_LABELS, Endpoint, Manifest
from forebay_operator.spec.served_names import find_name_variable
from forebay_protocol.env_lists import SERVED_NAME_OVERRIDE, SERVED_NAME_VARIABLES
from forebay_protocol.pod import API_PORT, OPS_PORT

PRE_STOP_SLEEP = 5
"""Seconds for which a terminating pod still serves, while Kubernetes removes it from its Service."""

EXIT_TIME = 15
"""Seconds from the end of the last stream to the end of the process, with a margin."""

STARTUP_MARGIN = 30
"""Seconds that the startup probe waits longer than the server itself. So the server can exit and say why it was
slow."""

STARTUP_PERIOD = 2
STARTUP_VARIABLE = "VLLM_STARTUP_TIMEOUT"
GPU_TAINTS = {"nvidia.com": "nvidia.com/gpu", "amd.com": "amd.com/gpu"}
"""Domain of a GPU resource -> the key of the taint on nodes with such GPUs, also for shares of them (MIG).

A taint with the name of the resource is tolerated too, as by Kubernetes' admission plugin ExtendedResourceToleration,
which many clusters lack. No vendor's plugin sets a taint: the cloud (GKE: nvidia.com/gpu=present) or its owner does.
"""


def build_pod_spec(endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    """Build the spec of the Deployment's pod template."""
    volumes, mounts = build_volumes(endpoint, settings)
    server = _build_container(endpoint, settings, mounts)
    init_containers = build_init_containers(endpoint, settings, server["resources"], server["securityContext"])
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_SLEEP + endpoint.rollout.drain_seconds + EXIT_TIME,
        "securityContext": {
            "runAsNonRoot": True,
            **settings.pod_ids,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [server],
        "volumes": volumes,
    }
    if init_containers:
        spec["initContainers"] = init_containers
    return spec | _build_placement(endpoint, settings)


def find_startup_seconds(endpoint: Endpoint) -> int:
    """Seconds that a start may take: the longer of spec.rollout.startupTimeout and VLLM_STARTUP_TIMEOUT in env."""
    given = next((one.get("value", "") for one in endpoint.env if one["name"] == STARTUP_VARIABLE), "")
    longest = int(given) if given.isdecimal() and len(given) <= 5 else 0
    return max(endpoint.rollout.startup_seconds, longest)


def _build_placement(endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    """Build the fields for the pod's placement and identity. Empty fields are omitted."""
    pod, gpu = endpoint.pod, endpoint.gpu
    domain = gpu.resource.partition("/")[0]
    nvidia = gpu.count > 0 and domain == "nvidia.com"
    taints = sorted({gpu.resource, GPU_TAINTS.get(domain, gpu.resource)}) if gpu.count else []
    nodes = dict(pod.node_selector)
    if gpu.count and gpu.product:
        nodes[PRODUCT_LABELS[domain]] = gpu.product
    placement = {
        "nodeSelector": nodes,
        "tolerations": [
            *({"key": taint, "operator": "Exists", "effect": "NoSchedule"} for taint in taints),
            *pod.tolerations,
        ],
        "affinity": pod.affinity,
        "topologySpreadConstraints": [_spread(endpoint, one) for one in pod.topology_spread_constraints],
        "priorityClassName": pod.priority_class_name,
        "runtimeClassName": pod.runtime_class_name or (settings.nvidia_runtime_class if nvidia else ""),
        "serviceAccountName": pod.service_account_name,
        "imagePullSecrets": list(pod.image_pull_secrets),
    }
    return {key: value for key, value in placement.items() if value}


def _spread(endpoint: Endpoint, constraint: Manifest) -> Manifest:
    """Complete a topology spread constraint. Without a selector it counts the endpoint's own pods."""
    return {"labelSelector": {"matchLabels": labels.selector_labels(endpoint.name)}, **constraint}


def choose_image(endpoint: Endpoint, settings: Settings) -> str:
    """The server image of an endpoint; empty if neither the endpoint nor the operator names one."""
    return endpoint.image or (settings.gpu_image if endpoint.gpu.count else settings.cpu_image)


def _build_container(endpoint: Endpoint, settings: Settings, mounts: list[Manifest]) -> dict[str, Any]:
    startup = find_startup_seconds(endpoint) + STARTUP_MARGIN
    container: dict[str, Any] = {
        "name": labels.CONTAINER,
        "image": choose_image(endpoint, settings),
        "imagePullPolicy": settings.pull_policy,
        **build_start(endpoint, settings),
        "ports": [
            {"name": "http", "containerPort": API_PORT, "protocol": "TCP"},
            {"name": "ops", "containerPort": OPS_PORT, "protocol": "TCP"},
        ],
        "env": build_env(endpoint, settings),
        "resources": _build_resources(endpoint),
        "startupProbe": _probe("/startupz", period=STARTUP_PERIOD, failures=startup // STARTUP_PERIOD),
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


def build_env(endpoint: Endpoint, settings: Settings) -> list[Manifest]:
    """Build the container's variables: the operator's, then the user's. The user's variables replace the defaults."""
    fixed = {
        "FOREBAY_ENDPOINT": endpoint.name,
        "FOREBAY_AUTH": endpoint.auth.mode,
        "FOREBAY_KEYS_DIR": KEYS_MOUNT,
        "FOREBAY_DRAIN_SECONDS": str(endpoint.rollout.drain_seconds),
        "MODEL_NAME": endpoint.model.path_below(MODEL_MOUNT),
    }
    if endpoint.model_revision:
        fixed["MODEL_REVISION"] = endpoint.model_revision
    if endpoint.args:  # Kubernetes replaces $(NAME) in a value, and $$ by $
        fixed["FOREBAY_ARGS"] = json.dumps(endpoint.arguments).replace("$", "$$")
    if endpoint.adapters:
        fixed |= {"ENABLE_LORA": "true", "LORA_MODULES": build_lora_modules(endpoint)}
    users = dict(endpoint.variables)
    defaults = {STARTUP_VARIABLE: str(endpoint.rollout.startup_seconds), **build_overlay_env(endpoint, settings)}
    if endpoint.model.kind != "hub" and not find_name_variable(users):
        users = {name: variable for name, variable in users.items() if name not in SERVED_NAME_VARIABLES}
        defaults[SERVED_NAME_OVERRIDE] = endpoint.name
    if endpoint.scaling and endpoint.scaling.sleeps and endpoint.gpu.count:
        defaults["ENABLE_SLEEP_MODE"] = "true"
    if size := find_tensor_parallel_size(endpoint.gpu.count, endpoint.env, endpoint.arguments):
        defaults[TENSOR_PARALLEL_SIZE] = str(size)
    ours = {name: {"name": name, "value": value} for name, value in (fixed | defaults).items()}
    return list((ours | users).values())


def _build_resources(endpoint: Endpoint) -> dict[str, Any]:
    requests = dict(endpoint.resources.get("requests") or {})
    limits = dict(endpoint.resources.get("limits") or {})
    if endpoint.gpu.count:
        limits[endpoint.gpu.resource] = requests[endpoint.gpu.resource] = str(endpoint.gpu.count)
    return {kind: values for kind, values in (("requests", requests), ("limits", limits)) if values}


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    """Build a probe of the ops port. The answer is a flag in memory, so two seconds suffice even on a busy node."""
    return {
        "httpGet": {"path": path, "port": "ops"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
