"""kopf watches; here its events become entries of the cache and keys in the work queue, and nothing else happens."""

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain, repeat
from typing import Any

import kopf

from forebay_operator import names
from forebay_operator.cache import Cache, Key, Store
from forebay_operator.queue import WorkQueue

_RESOURCES = {
    names.KIND: (names.GROUP, names.VERSION, names.PLURAL),
    "Deployment": ("apps", "v1", "deployments"),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "EndpointSlice": ("discovery.k8s.io", "v1", "endpointslices"),
}
_MADE = {"Deployment", "Service", "EndpointSlice"}
"""Children that nobody but the operator makes."""

CHUNK_SIZE = 100
"""Objects of one kind in one answer of a list: all five kinds are listed at once, and a parsed one takes 60 kB."""

IDLE_TIMEOUT = 1.0
"""Seconds for which kopf keeps a task, and with it the last body, for an object of which nothing is heard."""


def build_kopf_settings() -> kopf.OperatorSettings:
    """kopf as a mere watcher: our label as selector, no events posted, no peering, no look-out for kinds."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.networking.error_backoffs = _Patience()
    settings.networking.request_timeout, settings.networking.connect_timeout = 60, 10
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.queueing.idle_timeout = IDLE_TIMEOUT
    settings.watching.chunk_size = CHUNK_SIZE
    for kind, selector in names.SELECTORS.items():
        settings.watching.label_selectors[_RESOURCES[kind][-1]] = selector
    return settings


class _Patience:
    """Seconds before each further attempt of a list or a watch. They never end, as kopf would, with the operator."""

    def __iter__(self) -> Iterator[float]:
        return chain((0.5, 1.0, 2.0), repeat(3.0))


def register(registry: kopf.OperatorRegistry, queue: WorkQueue[Key], begun_anew: asyncio.Event) -> dict[str, Store]:
    """Register an event handler for the endpoints and for each kind of child. Returns what they fill, by kind.
    `begun_anew` is set when a watch has listed all its objects again.

    An event that tells nothing new puts no key into the queue: an object is as it was in all that somebody reads, or it
    is one that we have just made. (Were one child looked at before the news of the next, that one would seem to be
    missing.) kopf's own indices are not used: while they are filled, each object that comes wakes those of all others.
    """

    @kopf.on.login(registry=registry)
    async def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    stores = {kind: Store() for kind in _RESOURCES}
    for kind, resource in _RESOURCES.items():
        take = partial(_take, stores[kind], kind in _MADE, queue, begun_anew)
        kopf.on.event(*resource, id=kind, registry=registry)(take)
    return stores


def build_cache(stores: Mapping[str, Store]) -> Cache:
    """The cache over what the handlers fill."""
    return Cache(
        endpoints=stores[names.KIND],
        deployments=stores["Deployment"],
        services=stores["Service"],
        pods=stores["Pod"],
        slices=stores["EndpointSlice"],
    )


async def _take(
    store: Store,
    made: bool,
    queue: WorkQueue[Key],
    begun_anew: asyncio.Event,
    *,
    body: kopf.Body,
    type: str | None,
    **_: Any,
) -> None:
    """Keep an object or forget it. `made`: nobody but the operator makes objects of its kind."""
    metadata = body["metadata"]
    name = metadata["namespace"], metadata["name"]
    if type == "DELETED":
        key = store.drop(name, metadata["uid"])
    else:
        if type is None and name in store.names:
            begun_anew.set()
        key = store.put(body)
        for part in ("spec", "status"):  # kopf keeps bodies for a while, at a start those of all objects at once
            body.get(part, {}).clear()
    if key and not (made and type == "ADDED"):
        queue.add(key)


class _NoDiffs(kopf.DiffBaseStorage):
    """Finds no changes, as nobody asks for them: for that kopf would copy each object three times at every event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return {}

    def store(self, **_: Any) -> None:
        """Nothing is written to users' objects."""


class _NoProgress(kopf.ProgressStorage):
    """Remembers no handlers: none of ours is ever repeated."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is written to users' objects."""

    purge = touch = store

    def clear(self, *, essence: Any) -> Any:
        return essence
