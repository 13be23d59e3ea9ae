"""Lists the URLs of an endpoint for status.addresses: of its Service, of the gateways, and of its route.

The reconciler calls it. All are base URLs for OpenAI clients.
"""

from collections.abc import Iterable

from forebay_operator.spec import Endpoint, Manifest

MAX_ADDRESSES, MAX_URL = 64, 1024
"""The most addresses, and characters of a URL, that the schema allows. With more, the status would be rejected."""

SERVICE, GATEWAY, ROUTE = "Service", "Gateway", "Route"
"""Types of addresses."""


def list_addresses(
    endpoint: Endpoint, service: Manifest | None, gateway_bases: Iterable[str], gateway_id: str, routes: Iterable[str]
) -> list[Manifest]:
    """List the addresses of an endpoint: those of its Service first.

    Args:
        service: the endpoint's Service, if it exists. Its load balancer adds addresses outside the cluster.
        gateway_bases: URLs of the gateways, without a path.
        gateway_id: the endpoint's ID at the gateways and in routes.
        routes: URLs of the Gateways that have accepted the route, without a path.
    """
    own = [endpoint.url, *(f"{base}/v2/{endpoint.name}/openai/v1" for base in _find_load_balancers(service))]
    found = [(SERVICE, url) for url in own]
    for kind, bases in ((GATEWAY, gateway_bases), (ROUTE, routes)):
        found += [(kind, f"{base}/v2/{gateway_id}/openai/v1") for base in bases]
    distinct = dict.fromkeys(address for address in found if len(address[1]) <= MAX_URL)
    return [{"type": kind, "url": url} for kind, url in list(distinct)[:MAX_ADDRESSES]]


def base_url(scheme: str, host: str, port: int) -> str:
    """A URL without a path. It names the port only if it is not the scheme's own."""
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if port == {"http": 80, "https": 443}[scheme] else f"{scheme}://{name}:{port}"


def _find_load_balancers(service: Manifest | None) -> list[str]:
    """The URLs of the Service's load balancer, which the cloud reports in the Service's status."""
    if service is None or service["spec"].get("type") != "LoadBalancer":
        return []
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    hosts = [str(each.get("hostname") or each.get("ip") or "") for each in ingress]
    port = int(service["spec"]["ports"][0]["port"])
    return [base_url("http", host, port) for host in hosts if host]
