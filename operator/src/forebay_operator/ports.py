"""Gives each endpoint a port of its own at the gateways. The slices are the one record of it; this is what they say."""

from collections import deque
from collections.abc import Iterable, Sequence

from forebay_operator.cache import Index, Key
from forebay_operator.names import GATEWAY_PORTS
from forebay_operator.resources.gateway_slice import read_port
from forebay_operator.types import Manifest


class NoPortLeft(Exception):
    """All ports are taken."""

    def __init__(self) -> None:
        super().__init__(f"all {len(GATEWAY_PORTS)} ports of the gateways are taken")


class Ports:
    """The ports of all endpoints. `slices`: those that were made for gateways, complete before the first question."""

    def __init__(self, slices: Index) -> None:
        self._slices = slices
        self._taken: dict[int, Key] = {}
        self._of: dict[Key, int] = {}
        self._free: deque[int] = deque()
        self._read = False

    def find(self, key: Key, slices: Iterable[Manifest]) -> int:
        """The port of an endpoint: that in its slices, or one that is free. What was free longest is given first.

        Raises:
            NoPortLeft: there is none.
        """
        if not self._read:
            self._read_all()
        for port in (*map(read_port, slices), self._of.get(key, 0)):
            if port in GATEWAY_PORTS and self._taken.setdefault(port, key) == key:
                self._of[key] = port
                return port
        while self._free:
            port = self._free.popleft()
            if port not in self._taken:
                self._taken[port], self._of[key] = key, port
                return port
        raise NoPortLeft

    def release(self, key: Key) -> None:
        """The endpoint is gone."""
        port = self._of.pop(key, None)
        if port is not None:
            del self._taken[port]
            self._free.append(port)

    def _read_all(self) -> None:
        """Take over what the slices say. After a restart it is not known which port was freed when: those above the
        highest in use come first."""
        self._read = True
        for key, slices in self._slices.items():
            self._claim(key, [read_port(each) for each in slices])
        highest = max(self._taken, default=GATEWAY_PORTS.stop)
        free = (port for port in GATEWAY_PORTS if port not in self._taken)
        self._free.extend(sorted(free, key=lambda port: (port <= highest, port)))

    def _claim(self, key: Key, ports: Sequence[int]) -> None:
        for port in ports:
            if port in GATEWAY_PORTS and self._taken.setdefault(port, key) == key:
                self._of[key] = port
                return
