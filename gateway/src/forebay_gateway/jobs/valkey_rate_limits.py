"""Requests to all gateways together, counted in Valkey, by its clock, as those of gateways differ.

Each costs one call of rate_limits.lua before it is answered; the call that ends its count delays nobody.

A gateway says once a second which requests it still answers: those of one that died count for REQUEST_LEASE at most.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib import resources

from redis import asyncio as valkey

from forebay_gateway.jobs.rate_limits import CONCURRENT_REQUESTS, RATE_LIMIT_WINDOW, RATES, RateLimits
from forebay_gateway.jobs.scripts import Scripts
from forebay_gateway.jobs.store import Unavailable
from forebay_kube.endpoint_key import EndpointKey, format_key

logger = logging.getLogger(__name__)

REQUEST_LEASE = 10.0
"""Seconds for which a request counts unless its gateway says that it still answers it."""

RENEWAL_INTERVAL = 1.0
"""Seconds."""

REQUEST_BATCH = 1000
"""Requests in one call: a Lua function takes up to 8,000 arguments."""


class ValkeyRateLimits(RateLimits):
    """Use it as an async context manager."""

    def __init__(self, client: valkey.Redis) -> None:
        self._scripts = Scripts(client, resources.files(__package__).joinpath("rate_limits.lua").read_text())
        self._answering: dict[str, set[str]] = {}
        self._answered: dict[str, set[str]] = {}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> "ValkeyRateLimits":
        self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._release())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scripts.settle()

    @asynccontextmanager
    async def admit(self, key: EndpointKey, operation: str, pods: int) -> AsyncIterator[float]:
        most, most_at_once = (limits.get(operation, 0) * max(1, pods) for limits in (RATES, CONCURRENT_REQUESTS))
        if not most and not most_at_once:
            yield 0.0
            return
        name, token = f"{operation}:{format_key(key)}", uuid.uuid4().hex
        window, lease = round(RATE_LIMIT_WINDOW * 1000), round(REQUEST_LEASE * 1000)
        later = await self._scripts.run("take", name, most, window, most_at_once, lease, token) / 1000
        if later or not most_at_once:
            yield later
            return
        self._answering.setdefault(name, set()).add(token)
        try:
            yield 0.0
        finally:
            self._answering[name].discard(token)
            if not self._answering[name]:
                del self._answering[name]
            self._answered.setdefault(name, set()).add(token)
            self._changed.set()

    def forget(self, key: EndpointKey) -> None:
        """Nothing to do: what is counted ends by itself."""

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL_INTERVAL)
            await self._tell("renew", self._answering, round(REQUEST_LEASE * 1000))

    async def _release(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            answered, self._answered = self._answered, {}
            await self._tell("release", answered)

    async def _tell(self, step: str, requests: dict[str, set[str]], *arguments: int) -> None:
        """Name requests to a step, as long as Valkey answers; those that it does not learn of have a lease."""
        try:
            for name, tokens in list(requests.items()):
                for batch in _batches(tokens):
                    await self._scripts.run(step, name, *arguments, *batch)
        except Unavailable:
            return
        except Exception:
            logger.exception("in the rate limits' %s", step)


def _batches(tokens: Collection[str]) -> list[list[str]]:
    listed = list(tokens)
    return [listed[first : first + REQUEST_BATCH] for first in range(0, len(listed), REQUEST_BATCH)]
