"""The directory of endpoints, their pods and their ports. The watches fill it (watch.py); the handler reads it."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from forebay_gateway.endpoints.endpoint import Address, Endpoint, Slice
from forebay_gateway.observers import Observers
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)


class Directory:
    """Endpoints by their keys."""

    def __init__(self, home: str) -> None:
        """`home` is the namespace whose endpoints have their bare name as ID."""
        self._home = home
        self._endpoints: dict[EndpointKey, Endpoint] = {}
        self._slices: dict[EndpointKey, dict[str, Slice]] = {}
        self._open: set[EndpointKey] = set()
        self._watchers: dict[EndpointKey, set[asyncio.Event]] = {}
        self.ports_changed = Observers[[]]()
        """The ports to listen on may have changed."""
        self.endpoint_removed = Observers[[EndpointKey]]()
        """An endpoint was deleted from the cluster."""

    def put_endpoint(self, endpoint: Endpoint) -> None:
        """Add an endpoint, or replace its older version."""
        before = self._endpoints.get(endpoint.key)
        self._endpoints[endpoint.key] = endpoint
        if before is None or before.uid != endpoint.uid:
            self.ports_changed.notify()
        (self._open.add if endpoint.open else self._open.discard)(endpoint.key)
        self._notify_watchers(endpoint.key)

    def drop_endpoint(self, key: EndpointKey, *, gone: bool = True) -> None:
        """Stop serving an endpoint. If `gone` is False, the endpoint exists but cannot be read. Its jobs and files then
        stay."""
        self._endpoints.pop(key, None)
        self._open.discard(key)
        self.ports_changed.notify()
        if gone:
            self.endpoint_removed.notify(key)
        self._notify_watchers(key)

    def put_slice(self, name: str, new: Slice) -> None:
        """Add or replace a slice. `name` is the slice's own name, which is unique in its namespace."""
        before = self._slices.setdefault(new.key, {}).get(name)
        self._slices[new.key][name] = new
        if new.claim != (before.claim if before else ()):
            self.ports_changed.notify()
        self._notify_watchers(new.key)

    def drop_slice(self, name: str, key: EndpointKey) -> None:
        """Remove an EndpointSlice of an endpoint."""
        slices = self._slices.get(key, {})
        gone = slices.pop(name, None)
        if not slices:
            self._slices.pop(key, None)
        if gone and gone.gateway_port:
            self.ports_changed.notify()
        self._notify_watchers(key)

    def endpoint(self, key: EndpointKey) -> Endpoint | None:
        """The endpoint, or None."""
        return self._endpoints.get(key)

    def open(self) -> frozenset[EndpointKey]:
        """The endpoints that need no key."""
        return frozenset(self._open)

    def serving(self, model: str) -> list[EndpointKey]:
        """The endpoints that serve a model."""
        return [key for key, endpoint in self._endpoints.items() if model in endpoint.models]

    def find(self, name: str) -> Endpoint | None:
        """Look up an endpoint by ID: its name in the home namespace, or NAMESPACE.NAME."""
        namespace, dot, rest = name.partition(".")
        return self._endpoints.get((namespace, rest) if dot else (self._home, name))

    def id_of(self, key: EndpointKey) -> str:
        """The ID of an endpoint."""
        namespace, name = key
        return name if namespace == self._home else f"{namespace}.{name}"

    def ready(self, key: EndpointKey) -> list[Address]:
        """The pods that are ready according to Kubernetes."""
        return [address for each in self._slices.get(key, {}).values() for address in each.ready]

    def unready(self, key: EndpointKey) -> list[Address]:
        """The pods that are not ready: not yet, or not any more."""
        return [address for each in self._slices.get(key, {}).values() for address in each.unready]

    def ports(self) -> dict[int, EndpointKey]:
        """The ports of endpoints at the gateway.

        A slice is used only if it belongs to the existing endpoint. If two endpoints claim a port, the endpoint with
        the older slice gets it. If both slices are of the same second, neither endpoint gets it.
        """
        claims: dict[int, list[tuple[str, EndpointKey]]] = {}
        for key, slices in self._slices.items():
            endpoint = self._endpoints.get(key)
            for each in slices.values():
                if each.gateway_port and endpoint and each.owner == endpoint.uid:
                    claims.setdefault(each.gateway_port, []).append((each.created, key))
        ports = {}
        for port, claimed in claims.items():
            created, first = min(claimed)
            others = [key for when, key in claimed if key != first and when == created]
            if len({key for _, key in claimed}) > 1:
                logger.error("port %d is claimed by %s", port, sorted({key for _, key in claimed}))
            if not others:
                ports[port] = first
        return ports

    @contextmanager
    def changes(self, key: EndpointKey) -> Iterator[asyncio.Event]:
        """An event that is set whenever the endpoint or its pods change, while the context lasts."""
        event = asyncio.Event()
        self._watchers.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[key].discard(event)
            if not self._watchers[key]:
                del self._watchers[key]

    def _notify_watchers(self, key: EndpointKey) -> None:
        for event in self._watchers.get(key, ()):
            event.set()
