"""The CRD of HTTPRoutes."""

from pathlib import Path

from cluster import tools

GATEWAY_API = Path(__file__).with_name("gateway_api")
"""A Go module that names a release of the Gateway API by its hash."""

HTTPROUTES = "httproutes.gateway.networking.k8s.io"


def httproute_crd() -> Path:
    """The CRD of HTTPRoutes as its project publishes it."""
    folder = tools.download_module(GATEWAY_API, "sigs.k8s.io/gateway-api")
    return folder / "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
