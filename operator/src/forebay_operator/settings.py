"""The operator's settings for the children of endpoints, from its command line. `app` builds them."""

from dataclasses import dataclass

from forebay_operator.spec import Manifest


@dataclass(frozen=True)
class Settings:
    """The operator's own configuration.

    Attributes:
        gpu_image: server image of endpoints with GPUs that name none themselves.
        cpu_image: the same for endpoints with gpu.count 0.
        nvidia_runtime_class: RuntimeClass of pods with NVIDIA GPUs that name none themselves; "" leaves it to the node.
        pull_policy: imagePullPolicy of the server image and of model images.
        home_namespace: endpoints there have their bare name as id, as at the gateway; others namespace.name.
        kubernetes_minor: minor version of the API server, 35 for v1.35.
        network_policies: endpoints get one each, unless they want none.
        ops_peers: who may reach the servers' ops port, as a NetworkPolicy has it; none means everybody.
        cluster_cidrs: networks that servers must not reach.
        allowed_cidrs: networks that they may reach all the same.
    """

    gpu_image: str
    cpu_image: str
    nvidia_runtime_class: str = ""
    pull_policy: str = "IfNotPresent"
    home_namespace: str = "default"
    kubernetes_minor: int = 35
    network_policies: bool = True
    ops_peers: tuple[Manifest, ...] = ()
    cluster_cidrs: tuple[str, ...] = ()
    allowed_cidrs: tuple[str, ...] = ()
