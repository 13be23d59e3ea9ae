"""Lists the URLs of an endpoint for status.addresses: the URLs of its Service, of the gateways, and of its route.

The reconciler calls it. All URLs are base URLs for OpenAI clients.
"""

from collections.abc import Iterable

from forebay_operator.spec import Endpoint, Manifest

MAX_ADDRESSES, MAX_URL = 64, 1024
"""The schema's maximum of addresses, and of characters in a URL. The API server would reject a status with more."""

SERVICE, GATEWAY, ROUTE = "Service", "Gateway", "Route"
"""Types of addresses."""


def list_addresses(
    endpoint: Endpoint,
    service: Manifest | None,
    *,
    path_id: str,
    gateways: Iterable[str],
    routes: Iterable[str],
    previous: Iterable[Manifest] = (),
) -> list[Manifest]:
    """List the addresses of an endpoint. The addresses of its Service come first.

    Args:
        service: the endpoint's Service, if it exists. Its load balancer adds addresses outside the cluster.
        path_id: the endpoint's ID at the gateways and in routes.
        gateways: URLs of the gateways, without a path.
        routes: URLs of the Gateways that have accepted the route, without a path.
        previous: the addresses in the status before. Those of type Route stay.
    """
    balancers = _find_load_balancers(endpoint, service) if service else []
    own = [endpoint.url, *(f"{base}/v2/{endpoint.name}/openai/v1" for base in balancers)]
    found = [(SERVICE, url) for url in own]
    for kind, bases in ((GATEWAY, gateways), (ROUTE, routes)):
        found += [(kind, f"{base}/v2/{path_id}/openai/v1") for base in bases]
    found += [(ROUTE, address["url"]) for address in previous if address["type"] == ROUTE]
    distinct = dict.fromkeys(address for address in found if len(address[1]) <= MAX_URL)
    return [{"type": kind, "url": url} for kind, url in list(distinct)[:MAX_ADDRESSES]]


def base_url(scheme: str, host: str, port: int) -> str:
    """Build a URL without a path. The URL contains the port only if the port is not the scheme's default."""
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if port == {"http": 80, "https": 443}[scheme] else f"{scheme}://{name}:{port}"


def _find_load_balancers(endpoint: Endpoint, service: Manifest) -> list[str]:
    """The URLs of the Service's load balancer, which the cloud reports in the Service's status."""
    if endpoint.service.type != "LoadBalancer":
        return []
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    hosts = [str(each.get("hostname") or each.get("ip") or "") for each in ingress]
    return [base_url("http", host, endpoint.service.port) for host in hosts if host]
