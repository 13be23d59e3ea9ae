"""Finds the URLs at which Gateways serve an endpoint's route, from the listeners that the route attaches to.

controller/http_routes.py calls it.
"""

from collections.abc import Iterable, Iterator

from forebay_operator.spec import Manifest, Route
from forebay_operator.status.addresses import base_url

SCHEMES = {"HTTP": "http", "HTTPS": "https"}
"""Protocol of a listener -> scheme of its URLs. Listeners of other protocols, such as TLS, accept no HTTPRoute."""


def find_route_urls(route: Route, gateways: Iterable[tuple[Manifest, Manifest]]) -> list[str]:
    """Find the URLs, without a path. If a host has an HTTPS URL, its HTTP URL is omitted: it would send keys
    unencrypted.

    Args:
        gateways: pairs of a parentRef of the route and the Gateway that it names.
    """
    found = {
        base_url(scheme, host, port): (scheme, host)
        for parent, gateway in gateways
        for scheme, host, port in _find_hosts(route, parent, gateway)
    }
    secure = {host for scheme, host in found.values() if scheme == "https"}
    return [url for url, (scheme, host) in found.items() if scheme == "https" or host not in secure]


def _find_hosts(route: Route, parent: Manifest, gateway: Manifest) -> Iterator[tuple[str, str, int]]:
    """Scheme, host and port of each URL at one Gateway."""
    addresses = [str(each.get("value", "")) for each in (gateway.get("status") or {}).get("addresses") or ()]
    for listener in gateway["spec"].get("listeners") or ():
        scheme, port = SCHEMES.get(listener.get("protocol", "")), listener.get("port", 0)
        chosen = all(parent.get(key, listener.get(own)) == listener.get(own) for key, own in _SELECTORS)
        if not scheme or not chosen:
            continue
        bound = str(listener.get("hostname") or "")
        hosts = [_narrow(host, bound) for host in route.hostnames or (bound,)]
        for host in filter(None, hosts) if bound or route.hostnames else addresses:
            if host and not host.startswith("*"):
                yield scheme, host, port


_SELECTORS = ("sectionName", "name"), ("port", "port")
"""Field of a parentRef that selects listeners -> the listener's field."""


def _narrow(host: str, bound: str) -> str:
    """The more specific of a route's host and a listener's; "" if they have no host in common."""
    if not bound or host == bound or (bound.startswith("*.") and host.endswith(bound[1:])):
        return host
    return bound if host.startswith("*.") and bound.endswith(host[1:]) else ""
