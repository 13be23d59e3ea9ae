"""Keeps the directory and the keys in sync with the cluster, by a list and a watch for each kind of object.

`app` runs it for the whole life of the gateway.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Manifest, read_endpoint, read_slice
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.metrics import UNREADABLE
from forebay_kube import names
from forebay_kube.api_client import ApiClient, ApiServerError
from forebay_kube.endpoint_key import format_key, key_of_endpoint

logger = logging.getLogger(__name__)

PAGE = "500"
MAX_WATCH_RETRY_DELAY = 30.0
"""Seconds between two attempts, at most, while the API server does not answer."""


@dataclass
class Watch:
    """The watch of one collection of objects.

    Attributes:
        put: is called with each new or changed object.
        drop: is called with each deleted object.
        on_unreadable: is called instead of `drop` for an object that exists and cannot be parsed.
        synced: is set once all existing objects are handled.
    """

    path: str
    selector: dict[str, str]
    put: Callable[[Manifest], None]
    drop: Callable[[Manifest], None]
    on_unreadable: Callable[[Manifest], None] | None = None
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    _known: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    """The metadata of each object. It is used to drop an object that was deleted while no watch ran."""

    async def run(self, api: ApiClient) -> None:
        """Follow the collection, forever. While the API server does not answer, nothing changes."""
        version, pause = "", 0.0
        while True:
            try:
                if not version:
                    version = await self._list(api)
                    self.synced.set()
                async for event in api.watch(self.path, {**self.selector, "resourceVersion": version}):
                    pause = 0.0
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._handle_event(event["type"], event["object"])
            except Exception as error:
                if not isinstance(error, ApiServerError):  # an answer in an unexpected form
                    logger.exception("%s: the watch starts again", self.path)
                if not isinstance(error, ApiServerError) or error.status == 410:
                    version = ""
                pause = min(MAX_WATCH_RETRY_DELAY, max(0.5, pause * 2))
                logger.warning("%s: %s; again in %.1f s", self.path, error, pause)
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))

    async def _list(self, api: ApiClient) -> str:
        """List the collection, and drop deleted objects. Returns the version to watch from."""
        query = {**self.selector, "limit": PAGE}
        gone = dict(self._known)
        while True:
            page = await api.request("GET", self.path, query=query)
            for item in page["items"]:
                self._handle_event("ADDED", item)
                gone.pop(key_of_endpoint(item), None)
            following = page["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        for last in gone.values():
            self._handle_event("DELETED", last)
        return str(page["metadata"]["resourceVersion"])

    def _handle_event(self, kind: str, manifest: Manifest) -> None:
        """Handle one event. An object that cannot be parsed is skipped and affects no other."""
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self._known.pop(key_of_endpoint(manifest), None)
            self.drop(manifest)
            return
        metadata = manifest["metadata"]
        kept_metadata = {name: metadata[name] for name in ("name", "namespace", "labels") if name in metadata}
        self._known[key_of_endpoint(manifest)] = {"metadata": kept_metadata}
        try:
            self.put(manifest)
        except Exception:
            logger.exception("%s: %s cannot be parsed and is skipped", self.path, format_key(key_of_endpoint(manifest)))
            UNREADABLE.labels(self.path.rpartition("/")[2]).inc()
            (self.on_unreadable or self.drop)({"metadata": kept_metadata})


def watches(directory: Directory, keys: KeyAuthorizer, own: str, namespaces: Sequence[str]) -> Iterator[Watch]:
    """All watches of the gateway. `own` is its namespace, which has the Secrets. If `namespaces` is empty, all
    namespaces are watched."""

    def put_slice(manifest: Manifest) -> None:
        if parsed := read_slice(manifest):
            directory.put_slice(manifest["metadata"]["name"], parsed)
        else:
            drop_slice(manifest)

    def drop_slice(manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        service = (metadata.get("labels") or {}).get(names.SERVICE_LABEL, "")
        directory.drop_slice(metadata["name"], (metadata["namespace"], service))

    for scope in [f"/namespaces/{each}" for each in namespaces] or [""]:
        yield Watch(
            f"/apis/{names.GROUP}/{names.VERSION}{scope}/{names.PLURAL}",
            {},
            lambda manifest: directory.put_endpoint(read_endpoint(manifest)),
            lambda manifest: directory.drop_endpoint(key_of_endpoint(manifest)),
            lambda manifest: directory.drop_endpoint(key_of_endpoint(manifest), gone=False),
        )
        slices = f"/apis/discovery.k8s.io/v1{scope}/endpointslices"
        yield Watch(slices, {"labelSelector": names.MANAGED_SELECTOR}, put_slice, drop_slice)
    # a role can allow single Secrets by name, and then only a watch for one name is allowed
    for secret in (names.DIGEST_KEY_SECRET, *names.DIGEST_SECRETS):
        yield Watch(
            f"/api/v1/namespaces/{own}/secrets",
            {"fieldSelector": f"metadata.name={secret}"},
            lambda manifest: keys.put_secret(manifest["metadata"]["name"], _data(manifest)),
            lambda manifest: keys.drop_secret(manifest["metadata"]["name"]),
        )


def _data(manifest: Manifest) -> dict[str, Any]:
    return manifest.get("data") or {}
