"""Gives each endpoint a port of its own at the gateways. The slices are the one record of it; this is what they say."""

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
    """All ports are taken, or all that one namespace may have."""


class PortAllocator:
    """The ports of all endpoints.

    `slices`: those that were made for gateways, and `endpoints`, both complete before the first question. `share`: the
    part of the ports that the others leave free which one namespace may have.
    """

    def __init__(self, slices: Index, endpoints: Index, share: float = 0.5) -> None:
        self._slices = slices
        self._endpoints = endpoints
        self._share = share
        self._taken: dict[int, EndpointKey] = {}
        self._of: dict[EndpointKey, int] = {}
        self._in: Counter[str] = Counter()
        self._free: deque[int] = deque()
        self._read = False

    def find(self, key: EndpointKey, uid: str, slices: Iterable[Manifest]) -> int:
        """The port of an endpoint: that in its slices, or one that is free. What was free longest is given first.

        Raises:
            NoPortLeft: there is none.
        """
        if not self._read:
            self._read_all()
        own = [read_port(each) for each in slices if _owner(each) == uid]
        for port in (*own, self._of.get(key, 0)):
            if self._take(port, key):
                return port
        namespace, every = key[0], len(GATEWAY_PORTS)
        if len(self._taken) == every:
            raise NoPortLeft(f"all {every} ports of the gateways are taken")
        others = len(self._taken) - self._in[namespace]
        if self._in[namespace] + 1 > self._share * (every - others):
            raise NoPortLeft(
                f"namespace {namespace} uses {self._in[namespace]} of the {every} ports of the gateways, "
                f"others use {others}: one namespace may use {self._share:g} of what the others leave free"
            )
        port = self._free.popleft()
        while port in self._taken:
            port = self._free.popleft()
        self._take(port, key)
        return port

    def release(self, key: EndpointKey) -> None:
        """The endpoint is gone."""
        port = self._of.pop(key, None)
        if port is not None:
            del self._taken[port]
            self._in[key[0]] -= 1
            self._free.append(port)

    def _take(self, port: int, key: EndpointKey) -> bool:
        """Whether the endpoint has the port from now on: it is one of ours, and no other's. It has one at a time."""
        if port not in GATEWAY_PORTS or self._taken.get(port, key) != key:
            return False
        if self._of.get(key) != port:
            self.release(key)
            self._taken[port], self._of[key] = key, port
            self._in[key[0]] += 1
        return True

    def _read_all(self) -> None:
        """Take over what the slices say, as the gateways do: of two endpoints that claim a port the one whose slice was
        made first has it. After a restart it is not known which port was freed when: those above the highest in use
        come first."""
        self._read = True
        claims: list[tuple[str, EndpointKey, int]] = []
        for key, slices in self._slices.items():
            uid = next((each["metadata"]["uid"] for each in self._endpoints.get(key, ())), None)
            claims += [(_made(each), key, read_port(each)) for each in slices if _owner(each) == uid]
        for _, key, port in sorted(claims):
            if key not in self._of:
                self._take(port, key)
        highest = max(self._taken, default=GATEWAY_PORTS.stop)
        free = (port for port in GATEWAY_PORTS if port not in self._taken)
        self._free.extend(sorted(free, key=lambda port: (port <= highest, port)))


def _owner(manifest: Manifest) -> str | None:
    """The uid of the endpoint that a slice belongs to."""
    owner = find_controller(manifest)
    return str(owner["uid"]) if owner and owner["kind"] == names.KIND else None


def _made(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("creationTimestamp", ""))
