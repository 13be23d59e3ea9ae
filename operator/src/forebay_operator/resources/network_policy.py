"""Builds the NetworkPolicy of an endpoint's pods: the peers that may reach the pods, and the peers that the pods may
reach.

A pod fetches URLs that clients send, such as the URL of an image. So a pod must not reach the cloud's metadata service,
which has the node's credentials.
"""

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata, with_applied_digest
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint
from forebay_protocol.pod import API_PORT, OPS_PORT

METADATA_CIDRS = (
    "169.254.0.0/16",  # link-local: AWS, Azure, Google, Oracle, OpenStack …, and the credentials of AWS' containers
    "168.63.129.16/32",  # Azure's WireServer
    "100.100.100.200/32",  # Alibaba
    "fe80::/10",
    "fd00:ec2::/32",  # AWS' by IPv6
    "fd20:ce::254/128",  # Google's by IPv6
)
"""Addresses of the clouds' metadata services, which give a machine's data and credentials to its processes."""

EVERYWHERE = ("0.0.0.0/0", "::/0")


def build_network_policy(endpoint: Endpoint, settings: Settings) -> dict[str, Any] | None:
    """Build the policy, which has the endpoint's name; None if the endpoint or the operator's settings disable
    it."""
    if not (endpoint.network_policy.create and settings.network_policies):
        return None
    api = {"ports": _ports((API_PORT, *endpoint.network_policy.ports))}
    ops: dict[str, Any] = {"ports": _ports((OPS_PORT,))}
    if settings.ops_peers:
        ops["from"] = list(settings.ops_peers)
    dns = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
    denied = (*settings.cluster_cidrs, *(() if endpoint.pod.service_account_name else METADATA_CIDRS))
    peers = [_block(cidr, denied) for cidr in EVERYWHERE]
    peers += [{"ipBlock": {"cidr": cidr}} for cidr in settings.allowed_cidrs]
    if not settings.cluster_cidrs:
        peers.append({"namespaceSelector": {}})  # some network plugins ignore address blocks for pods
    spec = {
        "podSelector": {"matchLabels": labels.selector_labels(endpoint.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [api, ops],
        "egress": [dns, {"to": peers}],
    }
    metadata = build_metadata(endpoint, endpoint.name)
    return with_applied_digest(
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    )


def _ports(ports: Sequence[int]) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _block(cidr: str, denied: Sequence[str]) -> dict[str, Any]:
    """A peer for all addresses of a family except the denied ones."""
    version = ip_network(cidr).version
    excepted = [each for each in denied if ip_network(each).version == version]
    return {"ipBlock": {"cidr": cidr, **({"except": excepted} if excepted else {})}}
