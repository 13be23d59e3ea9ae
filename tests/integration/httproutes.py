"""The CRDs of the Gateway API."""

from pathlib import Path

from cluster import tools

GATEWAY_API = Path(__file__).with_name("gateway_api")
"""A Go module that names a release of the Gateway API by its hash."""

GATEWAYS = "gateways.gateway.networking.k8s.io"
HTTPROUTES = "httproutes.gateway.networking.k8s.io"


def httproute_crd() -> Path:
    """The CRD of HTTPRoutes as its project publishes it."""
    return _standard_crd("httproutes")


def gateway_crd() -> Path:
    """The CRD of Gateways as its project publishes it."""
    return _standard_crd("gateways")


def _standard_crd(plural: str) -> Path:
    folder = tools.download_module(GATEWAY_API, "sigs.k8s.io/gateway-api")
    return folder / f"config/crd/standard/gateway.networking.k8s.io_{plural}.yaml"
