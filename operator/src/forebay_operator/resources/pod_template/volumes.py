"""Builds the volumes of a server's pod: writable folders, keys, weights, and the user's own volumes.

The builder of the pod calls it.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from forebay_operator import labels
from forebay_operator.resources.pod_template.mounts import (
    ADAPTERS_MOUNT,
    CACHE_MOUNT,
    CONTROL_MOUNT,
    KEYS_MOUNT,
    MODEL_MOUNT,
    OVERLAY_MOUNT,
)
from forebay_operator.resources.pod_template.overlay import OVERLAY_VOLUME, build_overlay_volume
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest, Source


@dataclass
class Volumes:
    """Volumes with their mounts. A claim with several mounts is one volume."""

    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    mounts: list[dict[str, Any]] = field(default_factory=list)

    def mount(self, name: str, content: Manifest, path: str, read_only: bool = False) -> None:
        """Mount the volume that `content` describes at `path`."""
        self.volumes[name] = {"name": name, **content}
        self.mounts.append({"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})})

    def mount_claim(self, claim: str, path: str, read_only: bool) -> None:
        """Mount a claim. The volume is read-only only if all its mounts are read-only."""
        same = (one["name"] for one in self.volumes.values() if _claim_of(one) == claim)
        name = next(same, None) or f"forebay-claim-{sum(map(bool, map(_claim_of, self.volumes.values())))}"
        before = self.volumes.get(name)
        read_only_volume = read_only and (before is None or "readOnly" in before["persistentVolumeClaim"])
        source = {"claimName": claim, **({"readOnly": True} if read_only_volume else {})}
        self.mount(name, {"persistentVolumeClaim": source}, path, read_only)


def build_volumes(endpoint: Endpoint, settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    """Build the volumes and their mounts."""
    pod_volumes = Volumes()
    pod_volumes.mount("forebay-tmp", {"emptyDir": {}}, "/tmp")
    shared = {"medium": "Memory", "sizeLimit": shared_memory(endpoint.gpu.count)}
    pod_volumes.mount("forebay-shm", {"emptyDir": shared}, "/dev/shm")
    cache = endpoint.cache.claim_name or (labels.cache_claim_name(endpoint.name) if endpoint.cache.size else "")
    if cache:
        pod_volumes.mount_claim(cache, CACHE_MOUNT, read_only=False)
    else:
        pod_volumes.mount("forebay-cache", {"emptyDir": {}}, CACHE_MOUNT)
    if endpoint.auth.mode == "APIKey":
        secret = endpoint.auth.secret_name or labels.key_secret_name(endpoint.name)
        pod_volumes.mount("forebay-keys", {"secret": {"secretName": secret}}, KEYS_MOUNT, read_only=True)
    # Optional: without the token control is off, and the pod serves.
    control = {"secretName": labels.control_secret_name(endpoint.name), "optional": True}
    pod_volumes.mount("forebay-control", {"secret": control}, CONTROL_MOUNT, read_only=True)
    if overlay := build_overlay_volume(endpoint, settings):
        pod_volumes.mount(OVERLAY_VOLUME, overlay, OVERLAY_MOUNT, read_only=True)
    _mount_source(pod_volumes, "forebay-model", endpoint.model, MODEL_MOUNT, settings)
    for place, adapter in enumerate(endpoint.adapters):
        _mount_source(pod_volumes, f"forebay-adapter-{place}", adapter.source, adapter_mount(adapter.name), settings)
    volumes: list[Manifest] = [*pod_volumes.volumes.values(), *map(_without_false, endpoint.pod.volumes)]
    return volumes, [*pod_volumes.mounts, *map(_without_false, endpoint.pod.volume_mounts)]


def adapter_mount(name: str) -> str:
    """The path where an adapter from an image or a claim is mounted."""
    return f"{ADAPTERS_MOUNT}/{name}"


def build_lora_modules(endpoint: Endpoint) -> str:
    """Render the adapters in the form of LORA_MODULES."""
    base = {"base_model_name": endpoint.model_names[0]} if endpoint.model_names else {}
    modules = [
        {"name": adapter.name, "path": adapter.source.path_below(adapter_mount(adapter.name)), **base}
        for adapter in endpoint.adapters
    ]
    return json.dumps(modules)


def shared_memory(gpus: int) -> str:
    """The size limit of /dev/shm: 2Gi for one server, as in vLLM's own Kubernetes manifests (docs/deployment/k8s.md),
    and 1Gi for each further GPU, because its worker exchanges tensors through it."""
    return f"{2 + max(0, gpus - 1)}Gi"


def _mount_source(pod_volumes: Volumes, name: str, source: Source, path: str, settings: Settings) -> None:
    if source.kind == "image":
        pod_volumes.mount(name, {"image": {"reference": source.source, "pullPolicy": settings.pull_policy}}, path, True)
    elif source.kind == "claim":
        pod_volumes.mount_claim(source.source, path, read_only=True)


def _claim_of(volume: Manifest) -> str:
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))


def _without_false(given: Manifest) -> dict[str, Any]:
    """Remove `readOnly: false` from the user's volumes: the API server omits it, so it would look like drift."""
    return {
        key: _without_false(value) if isinstance(value, dict) else value
        for key, value in given.items()
        if not (key == "readOnly" and value is False)
    }
