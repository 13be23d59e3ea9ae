"""The document store in Valkey, or Redis from 7.0 on, for any number of gateways.

The batch API keeps its files and batches in it if the gateway has a Valkey; `job_services` creates it.
"""

import uuid
from collections.abc import Mapping, Sequence
from importlib import resources

from redis import asyncio as valkey

from forebay_gateway.batches.document_store import BUCKET_KINDS, DocumentStore, size_of
from forebay_gateway.jobs.scripts import Scripts
from forebay_gateway.jobs.store import Full, Lost
from forebay_kube.endpoint_key import EndpointKey, format_key

DISCARDED_AT_ONCE = 500
"""Documents that one step deletes."""


class ValkeyDocumentStore(DocumentStore):
    """Documents in Valkey.

    `max_bytes` bounds all documents of all gateways together, and `bucket_bytes` the objects that they list. A
    namespace may use `share` of the bytes that other namespaces do not use (quotas.Quota).
    """

    def __init__(self, client: valkey.Redis, max_bytes: int, share: float = 0.5, bucket_bytes: int = 0) -> None:
        self._scripts = Scripts(client, resources.files(__package__).joinpath("documents.lua").read_text())
        self._max_bytes = max_bytes
        self._bucket_bytes = bucket_bytes
        self._share = share
        self._gateway = uuid.uuid4().hex

    async def put(
        self,
        key: EndpointKey,
        kind: str,
        name: str,
        text: str,
        seconds: float,
        *,
        bounded: bool = True,
        objects_size: int = 0,
        lease: str = "",
    ) -> None:
        budget = self._bucket_bytes if kind in BUCKET_KINDS else self._max_bytes
        after, counted = round(seconds * 1000), size_of(text) + objects_size
        arguments = (kind, name, budget if bounded else -1, self._share, after, counted, text)
        answer = await self._scripts.run("put", format_key(key), *arguments, lease, self._gateway, growing=bounded)
        if answer == -1:
            raise Lost
        if not answer:
            raise Full

    async def get(self, key: EndpointKey, kind: str, name: str) -> str | None:
        text: str | None = await self._scripts.run("get", format_key(key), kind, name)
        return text

    async def all(self, key: EndpointKey, kind: str) -> Mapping[str, str]:
        documents: dict[str, str] = {}
        cursor = "0"
        while True:
            cursor, flat = await self._scripts.run("some", format_key(key), kind, cursor)
            documents |= zip(flat[::2], flat[1::2], strict=True)
            if cursor == "0":
                return documents

    async def delete(self, key: EndpointKey, kind: str, name: str) -> bool:
        return bool(await self._scripts.run("delete", format_key(key), kind, name))

    async def discard(self, key: EndpointKey, kind: str, names: Sequence[str]) -> None:
        for start in range(0, len(names), DISCARDED_AT_ONCE):
            await self._scripts.run("discard", format_key(key), kind, *names[start : start + DISCARDED_AT_ONCE])

    async def clear(self, key: EndpointKey, kind: str = "") -> None:
        while await self._scripts.run("clear", format_key(key), kind):
            continue

    async def lease(self, name: str, seconds: float) -> bool:
        return bool(await self._scripts.run("lease", name, self._gateway, round(seconds * 1000)))

    async def expire_documents(self) -> None:
        await self._scripts.run("expire_documents")

    async def wait_until_idle(self) -> None:
        """Wait for all running calls, so that the client can be closed."""
        await self._scripts.wait_until_idle()
