"""Documents in Valkey, or Redis from 7.0 on, for any number of gateways."""

import uuid
from collections.abc import Mapping
from importlib import resources

from redis import asyncio as valkey

from forebay_gateway.batches.shelf import Shelf
from forebay_gateway.jobs.steps import Steps
from forebay_gateway.jobs.store import Full
from forebay_gateway.names import Key


class ValkeyShelf(Shelf):
    """`most_bytes` bounds all documents together, whichever gateway keeps them there."""

    def __init__(self, client: valkey.Redis, most_bytes: int) -> None:
        self._steps = Steps(client, resources.files(__package__).joinpath("shelf.lua").read_text())
        self._most_bytes = most_bytes
        self._gateway = uuid.uuid4().hex

    async def put(self, key: Key, kind: str, name: str, text: str, seconds: float) -> None:
        kept = await self._steps.run(
            "put", "/".join(key), kind, name, self._most_bytes, round(seconds * 1000), text, growing=True
        )
        if not kept:
            raise Full

    async def get(self, key: Key, kind: str, name: str) -> str | None:
        found: str | None = await self._steps.run("get", "/".join(key), kind, name)
        return found

    async def all(self, key: Key, kind: str) -> Mapping[str, str]:
        flat = await self._steps.run("all", "/".join(key), kind)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def delete(self, key: Key, kind: str, name: str) -> bool:
        return bool(await self._steps.run("delete", "/".join(key), kind, name))

    async def clear(self, key: Key, kind: str = "") -> None:
        while await self._steps.run("clear", "/".join(key), kind):
            continue

    async def lease(self, name: str, seconds: float) -> bool:
        await self._steps.run("sweep")
        return bool(await self._steps.run("lease", name, self._gateway, round(seconds * 1000)))
