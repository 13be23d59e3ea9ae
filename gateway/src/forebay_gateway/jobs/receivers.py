"""Decides which addresses webhooks may connect to. The webhooks' HTTP sessions and their name lookups call it.

A client chooses the URL of a webhook. So the URL may lead only to internet addresses, and to networks and Services that
the gateway's settings allow. The address of the connection itself is checked, however the URL spells it. A Service is
recognized by its name in the cluster's DNS, which must not be an alias (ExternalName).

An HTTP proxy looks up the name and connects itself. So the gateway cannot check the address of the connection. It
checks the host in the URL, and the addresses that the cluster's DNS returns for the host.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from forebay_gateway.settings import Network
from forebay_kube.name_list import read_names

EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
"""IPv6 networks whose addresses end with an IPv4 address (RFC 6052, RFC 4291, RFC 2765). ipaddress knows the others."""

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
"""Networks that are not part of the internet, although Python 3.11 or 3.13 treats them as global."""

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
"""Metadata services, which have a node's credentials. No webhook may connect there, whatever the settings allow."""

NO_SERVICE = tuple(
    map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
"""Networks without Services: loopback, link-local, multicast."""

LOCAL_DOMAINS = ("localhost", "local", "internal", "home.arpa", "svc")
"""Domains that are not part of the internet (RFC 6761, RFC 6762, RFC 8375; ICANN reserves `internal`; `svc` has the
Services). Metadata services have names in `internal`."""

OWN_NAMESPACE = "own"
"""In the list of allowed namespaces: the namespace of the job's endpoint."""

API_SERVER_VARIABLE = "KUBERNETES_SERVICE_HOST"
API_SERVER_NAME = ("kubernetes", "default")

RESOLV_CONF = Path("/etc/resolv.conf")

_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOST = re.compile(r"[a-z0-9_]([-a-z0-9_.]{0,251}[a-z0-9_])?")


class Receivers:
    """The receivers that an installation allows.

    Args:
        networks: allowed networks besides the internet.
        namespaces: namespaces whose Services are allowed, or OWN_NAMESPACE.
        domain: the cluster's DNS domain; "" to read it from resolv.conf.
    """

    def __init__(self, networks: Sequence[Network] = (), namespaces: Collection[str] = (), domain: str = "") -> None:
        self._networks = networks
        self._namespaces = frozenset(namespaces)
        self._domain = domain or read_cluster_domain()
        self._api_server = _address_or_none(os.environ.get(API_SERVER_VARIABLE, ""))
        suffix = re.escape(self._domain)
        self._service = re.compile(rf"(?P<name>{_LABEL})\.(?P<namespace>{_LABEL})\.svc(\.{suffix})?\.?", re.IGNORECASE)

    def is_service(self, host: str, own_namespace: str) -> bool:
        """Whether a host is the name of a Service that webhooks of jobs in `own_namespace` may use.

        Any other host is checked by its address.
        """
        match = self._service.fullmatch(host)
        if not match or (match["name"].lower(), match["namespace"].lower()) == API_SERVER_NAME:
            return False
        namespace = match["namespace"].lower()
        if namespace == own_namespace and OWN_NAMESPACE in self._namespaces:
            return True
        return namespace in self._namespaces - {OWN_NAMESPACE}

    def service_name(self, host: str) -> str:
        """The full name of a Service in the cluster's DNS. Raises OSError."""
        match = self._service.fullmatch(host)
        if not match:
            raise OSError(f"{host} is not the name of a Service")
        return f"{match['name']}.{match['namespace']}.svc.{self._domain}".lower()

    def check_address(self, address: str) -> None:
        """Raise OSError if a webhook must not connect to an address."""
        self._check(address)
        if not is_allowed(address, self._networks):
            raise OSError(f"{address} is not an address of the internet, and not in webhook_networks")

    def check_service_address(self, address: str) -> None:
        """Raise OSError if a webhook must not connect to an address of an allowed Service."""
        self._check(address)
        if any(_real_address(address) in network for network in NO_SERVICE):
            raise OSError(f"{address} is not the address of a Service")

    def check_host_for_proxy(self, host: str) -> None:
        """Raise OSError if a proxy must not connect to the host of a URL.

        An address is checked as by `check_address`, in every form that a resolver reads: 127.1, 0x7f.0.0.1. A name must
        have a dot, and must not be in LOCAL_DOMAINS or in the cluster's domain.
        """
        name = host.rstrip(".").lower()
        try:
            self.check_address(_read_address(name))
            return
        except ValueError:
            pass
        if not _HOST.fullmatch(name):
            raise OSError(f"{host} is not the name of a host")
        local = (*LOCAL_DOMAINS, self._domain)
        if "." not in name or any(name == domain or name.endswith(f".{domain}") for domain in local):
            raise OSError(
                f"{host} is not the name of an internet host; to call it without the proxy, add it to noProxy"
            )

    def _check(self, address: str) -> None:
        real = _real_address(address)
        if real == self._api_server:
            raise OSError(f"{address} is the address of the API server")
        if any(real in network for network in METADATA):
            raise OSError(f"{address} is the address of a metadata service")


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address belongs to the internet or to one of these networks."""
    real = _real_address(address)
    public = real.is_global and not real.is_multicast and not getattr(real, "is_site_local", False)
    public = public and not any(real in network for network in INSIDE)
    return public or any(real in network for network in networks)


def _real_address(address: str) -> Any:
    """The address that packets are sent to: the embedded IPv4 address of an IPv6 address, or the address itself."""
    parsed: Any = ipaddress.ip_address(address.partition("%")[0])
    if parsed.version == 6:
        if any(parsed in network for network in EMBEDDING):
            return ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        return parsed.ipv4_mapped or parsed.sixtofour or parsed
    return parsed


def _read_address(host: str) -> str:
    """Read an address in any form, also in the short and hexadecimal forms of IPv4. Raises ValueError for a name."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return str(ipaddress.IPv4Address(socket.inet_aton(host)))
    except OSError:
        raise ValueError(f"{host!r} is not an address") from None


def _address_or_none(text: str) -> Any:
    """The address; None for a name, which some clouds use for the API server."""
    try:
        return _real_address(text)
    except ValueError:
        return None


def read_networks(text: str) -> list[Network]:
    """The networks in a list of CIDRs, separated by commas. Raises ValueError for another text."""
    return [ipaddress.ip_network(each) for each in read_names(text)]


def read_namespaces(text: str) -> list[str]:
    """The namespaces in a list of names, separated by commas. Raises ValueError for an invalid name."""
    names = read_names(text)
    if wrong := [each for each in names if not re.fullmatch(_LABEL, each)]:
        raise ValueError(f"{wrong[0]!r} is not the name of a namespace")
    return names


def read_cluster_domain(path: Path = RESOLV_CONF) -> str:
    """The domain of the cluster's Services, from the search list that the kubelet writes for each pod."""
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
