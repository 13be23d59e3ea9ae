"""Decides by HTTP_PROXY, HTTPS_PROXY and NO_PROXY, which the chart sets, whether a webhook goes through an HTTP proxy.

`Webhooks` calls it for each delivery. The names of the variables may also be in lower case. Requests to the API server,
to Valkey and to pods never go through a proxy.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL

from forebay_gateway.settings import Network
from forebay_kube.name_list import read_names


@dataclass(frozen=True)
class DirectHosts:
    """An entry of NO_PROXY: hosts that are reached without a proxy.

    Attributes:
        name: a host, or a domain with all its hosts; "" for every host.
        network: a network of addresses, in an entry without a name.
        port: the only port for which the entry holds; None for all.
    """

    name: str = ""
    network: Network | None = None
    port: int | None = None

    def matches(self, host: str, port: int) -> bool:
        """Whether the entry holds for a host, in lower case, and a port."""
        if self.port is not None and self.port != port:
            return False
        if self.network is None:
            return not self.name or host == self.name or host.endswith(f".{self.name}")
        try:
            return ipaddress.ip_address(host) in self.network
        except ValueError:
            return False


@dataclass(frozen=True)
class EgressProxies:
    """The URLs of the proxies for http:// and https:// URLs, "" for no proxy, and the hosts without a proxy."""

    http: str = ""
    https: str = ""
    direct: tuple[DirectHosts, ...] = ()

    def find(self, url: URL) -> str:
        """Find the URL of the proxy for a URL. Returns "" for no proxy."""
        proxy = self.https if url.scheme == "https" else self.http
        host = (url.raw_host or "").rstrip(".").lower()
        return "" if any(each.matches(host, url.port or 0) for each in self.direct) else proxy


NO_PROXIES = EgressProxies()


def read_proxies(environment: Mapping[str, str]) -> EgressProxies:
    """Read the proxies from the variables. Raises ValueError if the URL of a proxy is invalid."""

    def read(name: str) -> str:
        return (environment.get(name.lower()) or environment.get(name) or "").strip()

    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        url = URL(read(name))
        if str(url) and (url.scheme not in ("http", "https") or not url.host):
            raise ValueError(f"{name} must be a URL such as http://proxy.example.com:3128")
    direct = tuple(map(_read_entry, read_names(read("NO_PROXY"))))
    return EgressProxies(read("HTTP_PROXY"), read("HTTPS_PROXY"), direct)


def _read_entry(text: str) -> DirectHosts:
    """Parse an entry: *, a host, a domain with or without a leading dot, an address or a network. A port may follow."""
    text = text.lower()
    try:
        return DirectHosts(network=ipaddress.ip_network(text.strip("[]"), strict=False))
    except ValueError:
        pass
    name, _, port = text.rpartition(":")
    if port.isdecimal() and len(port) <= len("65535"):
        entry = _read_entry(name)
        return DirectHosts(entry.name, entry.network, int(port))
    return DirectHosts(text.removeprefix("*").strip("."))
