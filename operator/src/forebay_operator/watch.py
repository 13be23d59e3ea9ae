"""kopf watches; here its events become entries of the cache and keys in the work queue, and nothing else happens."""

import asyncio
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import kopf

from forebay_operator import names
from forebay_operator.cache import Cache, Key, key_of
from forebay_operator.queue import WorkQueue
from forebay_operator.types import Manifest

_CHILDREN = {"deployments": ("apps", "v1"), "services": ("", "v1"), "pods": ("", "v1")}


def build_kopf_settings() -> kopf.OperatorSettings:
    """kopf as a mere watcher: our label as selector, no events posted, no peering, no look-out for kinds."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.networking.error_backoffs = _Patience()
    for plural in _CHILDREN:
        settings.watching.label_selectors[plural] = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
    return settings


class _Patience:
    """Seconds before each further attempt of a list or a watch. They never end, as kopf would, with the operator."""

    def __iter__(self) -> Iterator[float]:
        return chain((0.5, 1.0, 2.0), repeat(3.0))


def register(registry: kopf.OperatorRegistry, queue: WorkQueue[Key], begun_anew: asyncio.Event) -> None:
    """Register an index and an event handler for the endpoints and for each kind of child. `begun_anew` is set when
    a watch has listed all its objects again.

    kopf calls no event handler before all indices are filled, so the first reconcile sees everything.
    """

    @kopf.on.login(registry=registry)
    async def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    resources = {names.PLURAL: (names.GROUP, names.VERSION), **_CHILDREN}
    for plural, (group, version) in resources.items():
        resource = (group, version, plural) if group else (version, plural)

        @kopf.index(*resource, id=plural, registry=registry)
        async def index(body: kopf.Body, **_: Any) -> dict[Key, Manifest]:
            return _index_entry(body)

        @kopf.on.event(*resource, id=f"{plural}-changed", registry=registry)
        async def enqueue(body: kopf.Body, memo: kopf.Memo, type: str | None, **_: Any) -> None:
            if type is None and memo.get("listed"):
                begun_anew.set()
            memo.listed = True
            for key in _index_entry(body):
                queue.add(key)


def build_cache(indices: Any) -> Cache:
    """The cache over kopf's indices, which a startup handler is given by name."""
    return Cache(
        endpoints=indices[names.PLURAL],
        deployments=indices["deployments"],
        services=indices["services"],
        pods=indices["pods"],
    )


def _index_entry(body: Manifest) -> dict[Key, Manifest]:
    """An object under its endpoint's key, without what nobody reads; nothing for one that belongs to no endpoint.

    Nothing is an empty dict: at None kopf would keep what it had indexed before.
    """
    key = key_of(body)
    managers = [{**entry, "fieldsV1": None} for entry in body["metadata"].get("managedFields") or ()]
    return {key: {**body, "metadata": {**body["metadata"], "managedFields": managers}}} if key else {}
