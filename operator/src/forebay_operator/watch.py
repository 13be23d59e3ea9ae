"""kopf watches; here its events become entries of the cache and keys in the work queue, and nothing else happens."""

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
    for plural in _CHILDREN:
        settings.watching.label_selectors[plural] = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
    return settings


def register(registry: kopf.OperatorRegistry, queue: WorkQueue[Key]) -> None:
    """Register an index and an event handler for the endpoints and for each kind of child.

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
        async def enqueue(body: kopf.Body, **_: Any) -> None:
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
