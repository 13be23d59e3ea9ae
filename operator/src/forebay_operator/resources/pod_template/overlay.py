"""Builds the parts of a pod that add Forebay's server to an image with only vLLM. The builder of the pod calls it.

The overlay image has the server's files in /server, and the program /copy. The pod gets the files below OVERLAY_MOUNT:
from a mounted image, or from an init container that copies them. An image that has the server itself needs neither.
"""

from typing import Any

from forebay_operator import labels
from forebay_operator.resources.pod_template.mounts import CACHE_MOUNT, OVERLAY_MOUNT
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest, OverlayMode

OVERLAY_VOLUME = "forebay-overlay"

START_COMMAND = ("python3", f"{OVERLAY_MOUNT}/server/forebay_start.py")
"""In all official images of vLLM, the first `python3` in PATH is the Python that has vLLM."""

POD_ENVIRONMENT = {
    "HOME": CACHE_MOUNT,
    "BASE_PATH": CACHE_MOUNT,
    "USER": "forebay",
    "PYTHONUNBUFFERED": "1",
}
"""Variables that an image of the server sets itself, and an image of vLLM does not.

USER: Python's getpass.getuser, which torch calls, fails for a user ID that the image's /etc/passwd does not have.
"""

COPY_RESOURCES = ("cpu", "memory", "ephemeral-storage")
"""The resources that the init container gets from the server's container."""


def choose_overlay(endpoint: Endpoint, settings: Settings) -> OverlayMode:
    """Return the overlay of an endpoint: spec.overlay, or else the operator's setting."""
    return endpoint.overlay or settings.overlay


def build_overlay_volume(endpoint: Endpoint, settings: Settings) -> Manifest | None:
    """Build the source of the volume with the server's files; None for an image that has the server."""
    match choose_overlay(endpoint, settings):
        case "Copy":
            return {"emptyDir": {}}
        case "ImageVolume":
            return {"image": {"reference": settings.overlay_image, "pullPolicy": settings.overlay_pull_policy}}
        case _:
            return None


def build_init_containers(
    endpoint: Endpoint, settings: Settings, resources: Manifest, security_context: Manifest
) -> list[Manifest]:
    """Build the init container of the overlay Copy.

    Args:
        resources: the resources of the server's container. The init container gets the same, without GPUs. So the pod
            requests no more than the server alone, and keeps its QoS class. A ResourceQuota that demands resources of
            every container accepts it.
        security_context: the security context of the server's container.
    """
    if choose_overlay(endpoint, settings) != "Copy":
        return []
    container: dict[str, Any] = {
        "name": labels.INIT_CONTAINER,
        "image": settings.overlay_image,
        "imagePullPolicy": settings.overlay_pull_policy,
        "command": ["/copy", OVERLAY_MOUNT],
        "resources": _without_gpus(resources),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security_context,
        "volumeMounts": [{"name": OVERLAY_VOLUME, "mountPath": OVERLAY_MOUNT}],
    }
    return [container]


def build_start(endpoint: Endpoint, settings: Settings) -> Manifest:
    """Build the fields of the server's container that start the overlay; empty for an image that has the server."""
    if choose_overlay(endpoint, settings) == "None":
        return {}
    return {"command": list(START_COMMAND), "workingDir": CACHE_MOUNT}


def build_overlay_env(endpoint: Endpoint, settings: Settings) -> dict[str, str]:
    """Build the variables that an image of vLLM lacks; empty for an image that has the server."""
    return {} if choose_overlay(endpoint, settings) == "None" else dict(POD_ENVIRONMENT)


def _without_gpus(resources: Manifest) -> Manifest:
    kept = {
        kind: {name: amount for name, amount in amounts.items() if name in COPY_RESOURCES}
        for kind, amounts in resources.items()
    }
    return {kind: amounts for kind, amounts in kept.items() if amounts}
