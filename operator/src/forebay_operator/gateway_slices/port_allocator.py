"""Assigns each endpoint its own port at the gateways. The slice writer calls it.

The endpoints' slices are the only record of the ports; a new leader reads them.
"""

from collections import Counter, deque
from collections.abc import Iterable

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey
from forebay_kube.names import GATEWAY_PORTS
from forebay_operator.apiserver.cache import Index
from forebay_operator.resources.gateway_slice import read_port
from forebay_operator.resources.meta import find_controller
from forebay_operator.spec import Manifest


class NoPortLeft(Exception):
    """All ports are in use, or the namespace already has its share."""


class PortAllocator:
    """The ports of all endpoints.

    Args:
        slices: the slices that lead to gateways, by endpoint. Complete before the first call.
        endpoints: all endpoints. Complete before the first call.
        share: the part that one namespace may have of the ports that other namespaces do not use.
    """

    def __init__(self, slices: Index, endpoints: Index, share: float = 0.5) -> None:
        self._slices = slices
        self._endpoints = endpoints
        self._share = share
        self._by_port: dict[int, EndpointKey] = {}
        self._by_endpoint: dict[EndpointKey, int] = {}
        self._namespace_counts: Counter[str] = Counter()
        self._free: deque[int] = deque()
        self._read = False

    def find(self, key: EndpointKey, uid: str, slices: Iterable[Manifest]) -> int:
        """The port of an endpoint: the port in its slices, or else the port that has been free longest.

        Raises:
            NoPortLeft: no port is free for this namespace.
        """
        if not self._read:
            self._read_all()
        own = [read_port(each) for each in slices if _owner(each) == uid]
        for port in (*own, self._by_endpoint.get(key, 0)):
            if self._assign(port, key):
                return port
        namespace, every = key[0], len(GATEWAY_PORTS)
        if len(self._by_port) == every:
            raise NoPortLeft(f"all {every} ports of the gateways are taken")
        others = len(self._by_port) - self._namespace_counts[namespace]
        if self._namespace_counts[namespace] + 1 > self._share * (every - others):
            raise NoPortLeft(
                f"namespace {namespace} uses {self._namespace_counts[namespace]} of the {every} ports of the gateways, "
                f"others use {others}: one namespace may use {self._share:g} of the ports that others do not use"
            )
        port = self._free.popleft()
        while port in self._by_port:
            port = self._free.popleft()
        self._assign(port, key)
        return port

    def release(self, key: EndpointKey) -> None:
        """Free the port of an endpoint that no longer exists."""
        port = self._by_endpoint.pop(key, None)
        if port is not None:
            del self._by_port[port]
            self._namespace_counts[key[0]] -= 1
            self._free.append(port)

    def _assign(self, port: int, key: EndpointKey) -> bool:
        """Try to give a port to an endpoint, in place of its previous port. Returns whether the endpoint has the port
        now."""
        if port not in GATEWAY_PORTS or self._by_port.get(port, key) != key:
            return False
        if self._by_endpoint.get(key) != port:
            self.release(key)
            self._by_port[port], self._by_endpoint[key] = key, port
            self._namespace_counts[key[0]] += 1
        return True

    def _read_all(self) -> None:
        """Read the ports from all slices.

        If two endpoints claim a port, the endpoint with the older slice gets it, as at the gateways. After a restart it
        is unknown when a port became free, so ports above the highest used port are given first.
        """
        self._read = True
        claims: list[tuple[str, EndpointKey, int]] = []
        for key, slices in self._slices.items():
            uid = next((each["metadata"]["uid"] for each in self._endpoints.get(key, ())), None)
            claims += [(_created_at(each), key, read_port(each)) for each in slices if _owner(each) == uid]
        for _, key, port in sorted(claims):
            if key not in self._by_endpoint:
                self._assign(port, key)
        highest = max(self._by_port, default=GATEWAY_PORTS.stop)
        free = (port for port in GATEWAY_PORTS if port not in self._by_port)
        self._free.extend(sorted(free, key=lambda port: (port <= highest, port)))


def _owner(manifest: Manifest) -> str | None:
    """The uid of the endpoint that a slice belongs to."""
    owner = find_controller(manifest)
    return str(owner["uid"]) if owner and owner["kind"] == names.KIND else None


def _created_at(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("creationTimestamp", ""))
