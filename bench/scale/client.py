"""A bare client: kubernetes.aio's raw requests, and nothing that thinks."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from kubernetes.aio import client

from tests.integration.kubernetes_client import connect as open_client
from tests.kubectl import Kubectl, Manifest

T = TypeVar("T")


class Client:
    """Requests to the API server with the access that a kubectl has."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str
    ) -> Any:
        """Send a request, and return the JSON of the response.

        Raises:
            RuntimeError: the API server refused, so the round has no result.
        """
        async with self._ask(method, path, body, content_type, query) as response:
            data = await response.read()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {data.decode()[:500]}")
            return json.loads(data)

    async def find_version(self, path: str) -> str:
        """The version that a collection has now, for `watch`."""
        return str((await self.request("GET", path, limit="1"))["metadata"]["resourceVersion"])

    async def watch(self, path: str, version: str) -> AsyncIterator[Manifest]:
        """Every object of a collection that changes after a version, as it is then. Never ends."""
        async with self._ask("GET", path, query={"watch": "true", "resourceVersion": version}) as response:
            async for line in response.content:
                yield json.loads(line)["object"]

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", query: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        request = await self._api.param_serialize(
            method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        answer = await self._api.call_api(*request, _request_timeout=3600)
        async with answer.response as response:
            yield response


@asynccontextmanager
async def connect(kubectl: Kubectl) -> AsyncIterator[Client]:
    """A client with this access, until the context ends."""
    async with await open_client(kubectl.kubeconfig) as api:
        yield Client(api)


async def for_each(things: Iterable[T], work: Callable[[T], Awaitable[object]], concurrency: int) -> None:
    """Do the work for each thing, for so many of them at once."""
    waiting = iter(things)

    async def work_on() -> None:
        for thing in waiting:
            await work(thing)

    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(work_on())
