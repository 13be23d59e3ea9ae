"""Where webhooks may lead. A URL comes from a client, so it may lead only to where a client could go by itself:
addresses of the internet; and to what the settings of the gateway allow: networks, and the Services of namespaces.

The very address that is connected to is looked at, however the URL spells it. A Service is known by its name in the
cluster's DNS, which must be no alias (ExternalName) of something else.
"""

import ipaddress
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from forebay_gateway.settings import Network

EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
"""IPv6 addresses that end with an IPv4 address (RFC 6052, RFC 4291, RFC 2765); of others ipaddress knows."""

INSIDE = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's WireServer, in an address of the internet
            "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
            "2001::/23",  # protocols (RFC 2928), Teredo among them, which embeds IPv4
            "3fff::/20",  # documentation (RFC 9637)
            "5f00::/16",  # segments (RFC 9602)
            "64:ff9b:1::/48",  # NAT64 of one's own (RFC 8215)
        ),
    )
)
"""Networks that are not the internet, though Python 3.11 or 3.13 takes them for it."""

METADATA = tuple(
    map(
        ipaddress.ip_network,
        (
            "169.254.169.254/32",  # AWS, Azure, Google, Oracle, OpenStack …
            "169.254.170.0/24",  # credentials of AWS' containers
            "168.63.129.16/32",  # Azure's WireServer
            "100.100.100.200/32",  # Alibaba
            "fd00:ec2::/32",  # AWS' by IPv6
            "fd20:ce::254/128",  # Google's by IPv6
        ),
    )
)
"""Where a node's credentials are: no webhook leads there, whatever is allowed."""

NO_SERVICE = tuple(
    map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
"""Where no Service is: loopback, link-local, multicast."""

OWN_NAMESPACE = "own"
"""Among the namespaces that webhooks may lead to: the one of the job's endpoint."""

API_SERVER_VARIABLE = "KUBERNETES_SERVICE_HOST"
API_SERVER_NAME = ("kubernetes", "default")

RESOLV_CONF = Path("/etc/resolv.conf")

_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


class Receivers:
    """What an installation allows. `namespaces` may have OWN_NAMESPACE; `domain` is the cluster's."""

    def __init__(self, networks: Sequence[Network] = (), namespaces: Collection[str] = (), domain: str = "") -> None:
        self._networks = networks
        self._namespaces = frozenset(namespaces)
        self._domain = domain or read_cluster_domain()
        self._api_server = _address_or_none(os.environ.get(API_SERVER_VARIABLE, ""))
        suffix = re.escape(self._domain)
        self._service = re.compile(rf"(?P<name>{_LABEL})\.(?P<namespace>{_LABEL})\.svc(\.{suffix})?\.?", re.IGNORECASE)

    def is_service(self, host: str, own_namespace: str) -> bool:
        """Whether a host is the name of a Service that jobs of this namespace may tell of their end. Any other host is
        judged by its address."""
        found = self._service.fullmatch(host)
        if not found or (found["name"].lower(), found["namespace"].lower()) == API_SERVER_NAME:
            return False
        namespace = found["namespace"].lower()
        if namespace == own_namespace and OWN_NAMESPACE in self._namespaces:
            return True
        return namespace in self._namespaces - {OWN_NAMESPACE}

    def service_name(self, host: str) -> str:
        """The full name of a Service in the cluster's DNS. Raises OSError."""
        found = self._service.fullmatch(host)
        if not found:
            raise OSError(f"{host} is not the name of a Service")
        return f"{found['name']}.{found['namespace']}.svc.{self._domain}".lower()

    def check_address(self, address: str) -> None:
        """Raises OSError where a webhook may not go to an address."""
        self._check(address)
        if not is_allowed(address, self._networks):
            raise OSError(f"{address} is not an address of the internet, and not in webhook_networks")

    def check_service_address(self, address: str) -> None:
        """The same for an address of a Service that is allowed by its name."""
        self._check(address)
        if any(_real_address(address) in network for network in NO_SERVICE):
            raise OSError(f"{address} is not the address of a Service")

    def _check(self, address: str) -> None:
        found = _real_address(address)
        if found == self._api_server:
            raise OSError(f"{address} is the address of the API server")
        if any(found in network for network in METADATA):
            raise OSError(f"{address} is the address of a metadata service")


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether a webhook may go to an address: one of the internet, or of these networks."""
    found = _real_address(address)
    public = found.is_global and not found.is_multicast and not getattr(found, "is_site_local", False)
    public = public and not any(found in network for network in INSIDE)
    return public or any(found in network for network in networks)


def _real_address(address: str) -> Any:
    """The address that packets go to: the IPv4 address that an IPv6 address embeds, or the address itself."""
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:
        if any(found in network for network in EMBEDDING):
            return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        return found.ipv4_mapped or found.sixtofour or found
    return found


def _address_or_none(text: str) -> Any:
    """None for a name, as some clouds have one for the API server."""
    try:
        return _real_address(text)
    except ValueError:
        return None


def read_networks(text: str) -> list[Network]:
    """Of CIDRs, separated by commas. Raises ValueError."""
    return [ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip()]


def read_namespaces(text: str) -> list[str]:
    """Of names, separated by commas. Raises ValueError."""
    names = [each.strip() for each in text.split(",") if each.strip()]
    if wrong := [each for each in names if not re.fullmatch(_LABEL, each)]:
        raise ValueError(f"{wrong[0]!r} is not the name of a namespace")
    return names


def read_cluster_domain(path: Path = RESOLV_CONF) -> str:
    """The domain of the cluster's Services, as the kubelet has it in the search list of each pod."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        keyword, *domains = line.split() or [""]
        if keyword == "search":
            for domain in domains:
                if domain.startswith("svc."):
                    return domain.removeprefix("svc.").rstrip(".").lower()
    return "cluster.local"
