"""The operator's settings for the children of endpoints, from its command line. `app` builds them."""

from dataclasses import dataclass, field

from forebay_operator.spec import (
    NO_DEFAULTS,
    NO_INHERITANCE,
    EndpointDefaults,
    Inheritance,
    Manifest,
    OverlayMode,
    UpgradeMode,
)
from forebay_operator.upgrade_window import UpgradeWindow

POD_USER, POD_GROUP = 2000, 0
"""The user and group of vLLM's official images."""

POD_IDS = {"runAsUser": POD_USER, "runAsGroup": POD_GROUP, "fsGroup": POD_USER}


@dataclass(frozen=True)
class UpgradeSettings:
    """How endpoints get a pod template that only the operator has changed.

    Attributes:
        mode: the mode of endpoints that set none in spec.upgrade.
        max_concurrent: the maximum number of endpoints that are upgraded at the same time.
        window: when upgrades may begin; None for always.
    """

    mode: UpgradeMode = "Automatic"
    max_concurrent: int = 1
    window: UpgradeWindow | None = None


@dataclass(frozen=True)
class Settings:
    """The settings for the children of all endpoints.

    Attributes:
        gpu_image: the default image for endpoints with GPUs.
        cpu_image: the default image for endpoints with gpu.count 0.
        overlay: how Forebay's server gets into the pods of endpoints that do not set spec.overlay.
        overlay_image: the image with Forebay's server; "" if there is none.
        overlay_pull_policy: the imagePullPolicy of `overlay_image`.
        nvidia_runtime_class: the default RuntimeClass of pods with NVIDIA GPUs; "" leaves it to the node.
        pull_policy: the imagePullPolicy of server images and model images.
        gateway_urls: URLs of the gateways for clients, without a path; empty without gateways.
        home_namespace: the namespace whose endpoints have the ID NAME, as at the gateway; others have NAMESPACE.NAME.
        kubernetes_minor: the minor version of the API server, 35 for v1.35.
        network_policies: whether endpoints get a NetworkPolicy, unless they want none.
        ops_peers: the peers of a NetworkPolicy that may reach the servers' ops port; empty means all peers.
        cluster_cidrs: networks that servers must not reach.
        allowed_cidrs: networks that servers may reach although they are in `cluster_cidrs`.
        inheritance: the labels and annotations of endpoints that their children get.
        upgrades: how endpoints get a pod template that only the operator has changed.
        pod_ids: runAsUser, runAsGroup and fsGroup of servers' pods. The cluster chooses absent ones, as OpenShift does.
        defaults: the defaults of endpoints' own fields.
    """

    gpu_image: str
    cpu_image: str
    overlay: OverlayMode = "Copy"
    overlay_image: str = ""
    overlay_pull_policy: str = "IfNotPresent"
    nvidia_runtime_class: str = ""
    pull_policy: str = "IfNotPresent"
    gateway_urls: tuple[str, ...] = ()
    home_namespace: str = "default"
    kubernetes_minor: int = 35
    network_policies: bool = True
    ops_peers: tuple[Manifest, ...] = ()
    cluster_cidrs: tuple[str, ...] = ()
    allowed_cidrs: tuple[str, ...] = ()
    inheritance: Inheritance = NO_INHERITANCE
    upgrades: UpgradeSettings = UpgradeSettings()
    pod_ids: Manifest = field(default_factory=lambda: POD_IDS)
    defaults: EndpointDefaults = NO_DEFAULTS
