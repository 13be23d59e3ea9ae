"""Rate limits for all gateways together, counted in Valkey by its clock, because the gateways' clocks differ.

Valkey allots requests of a window, and slots for concurrent requests, to each gateway. If the limit is large, Valkey
allots some more than the gateway needs now. So most requests need no call to Valkey, and a request needs at most one
call. The limit is never exceeded. A gateway renews its slots every second. The slots of a dead gateway are free after
SLOTS_LEASE.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources

from redis import asyncio as valkey

from forebay_gateway.jobs.rate_limits import (
    BUSY_RETRY_INTERVAL,
    CONCURRENT_REQUESTS,
    RATE_LIMIT_WINDOW,
    RATES,
    RateLimits,
)
from forebay_gateway.jobs.scripts import Scripts, is_away
from forebay_gateway.jobs.store import Unavailable
from forebay_kube.endpoint_key import EndpointKey, format_key

logger = logging.getLogger(__name__)

SLOTS_LEASE = 10.0
"""Seconds for which a gateway has its slots without a renewal."""

SLOTS_RENEWAL_INTERVAL = 1.0
"""Seconds between renewals. A renewal gives back the slots that the gateway does not need."""

ALLOTTED_PART, SPARE_PART = 100, 40
"""A gateway takes 1/ALLOTTED_PART of a window's requests at a time, and keeps 1/SPARE_PART of the slots free for later
requests. With a small limit, it takes one request at a time and keeps no free slot. So all gateways together can use
the whole limit."""

RENEWAL_BATCH = 1000
"""Names in one call. A Lua function takes up to 8,000 arguments."""


@dataclass
class _Allotted:
    """The requests and slots that Valkey has allotted to this gateway for one operation of an endpoint.

    Attributes:
        requests, window_ends: the requests that are left, and the time until which they are valid, by the loop's clock.
        slots, spare: the slots for concurrent requests, and how many free ones are kept.
        answering, waiting: the requests in progress, and those that wait for admission.
        refused_at, later: the time of the last refusal, and the seconds until a retry; None if Valkey did not answer.
        used: whether it was used since the last renewal.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    requests: int = 0
    window_ends: float = 0.0
    slots: int = 0
    spare: int = 0
    answering: int = 0
    waiting: int = 0
    refused_at: float = -1.0
    later: float | None = 0.0
    used: bool = True

    def has_request(self, limit: int) -> bool:
        return not limit or (self.requests > 0 and _now() < self.window_ends)

    def has_slot(self, max_concurrent: int) -> bool:
        return not max_concurrent or self.answering < self.slots

    @property
    def surplus(self) -> bool:
        """Whether the gateway has more slots than it uses and may keep free."""
        return self.slots > self.answering + self.waiting + self.spare


class ValkeyRateLimits(RateLimits):
    """The rate limits in Valkey. Use it as an async context manager."""

    def __init__(self, client: valkey.Redis) -> None:
        self._scripts = Scripts(client, resources.files(__package__).joinpath("rate_limits.lua").read_text())
        self._gateway = uuid.uuid4().hex
        self._allotted: dict[str, _Allotted] = {}
        self._surplus: set[str] = set()
        self._freed = asyncio.Event()

    async def __aenter__(self) -> "ValkeyRateLimits":
        self._tasks = [asyncio.create_task(self._keep_renewing()), asyncio.create_task(self._keep_releasing())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scripts.wait_until_idle()

    @asynccontextmanager
    async def admit(self, key: EndpointKey, operation: str, pods: int) -> AsyncIterator[float]:
        limit, max_concurrent = (limits.get(operation, 0) * max(1, pods) for limits in (RATES, CONCURRENT_REQUESTS))
        if not limit and not max_concurrent:
            yield 0.0
            return
        name = f"{operation}:{format_key(key)}"
        allotted = self._allotted.setdefault(name, _Allotted())
        if later := await self._admit(name, allotted, limit, max_concurrent):
            yield later
            return
        try:
            yield 0.0
        finally:
            allotted.answering -= 1
            if allotted.surplus:
                self._surplus.add(name)
                self._freed.set()

    def forget(self, key: EndpointKey) -> None:
        """Do nothing: the counts in Valkey expire."""

    async def _admit(self, name: str, allotted: _Allotted, limit: int, max_concurrent: int) -> float:
        """Admit a request. Returns 0 if the request is admitted, else the seconds until a retry."""
        arrived = _now()
        allotted.used = True
        allotted.waiting += 1
        try:
            while not (allotted.has_request(limit) and allotted.has_slot(max_concurrent)):
                if allotted.refused_at >= arrived:
                    if allotted.later is None:
                        raise Unavailable
                    return allotted.later
                # shielded: if a client disconnects, this gateway must still learn what Valkey has allotted
                await asyncio.shield(self._request_more(name, allotted, limit, max_concurrent, arrived))
            allotted.requests -= bool(limit)
            allotted.answering += 1
            return 0.0
        finally:
            allotted.waiting -= 1

    async def _request_more(
        self, name: str, allotted: _Allotted, limit: int, max_concurrent: int, arrived: float
    ) -> None:
        """Have Valkey allot one more request. Do nothing if another call got a request, or was refused, in the
        meantime."""
        async with allotted.lock:
            has_request, has_slot = allotted.has_request(limit), allotted.has_slot(max_concurrent)
            if not (has_request and has_slot) and allotted.refused_at < arrived:
                await self._allot(name, allotted, limit, max_concurrent)

    async def _allot(self, name: str, allotted: _Allotted, limit: int, max_concurrent: int) -> None:
        began, has_request = _now(), allotted.has_request(limit)
        spare, slots = max_concurrent // SPARE_PART, allotted.slots
        limits = {
            "wanted": 0 if has_request else max(1, limit // ALLOTTED_PART, allotted.waiting),
            "limit": limit,
            "window": round(RATE_LIMIT_WINDOW * 1000),
            "needed": allotted.answering + 1,
            "slots": slots if allotted.has_slot(max_concurrent) else allotted.answering + allotted.waiting + spare,
            "max_concurrent": max_concurrent,
            "lease": round(SLOTS_LEASE * 1000),
            "busy": round(BUSY_RETRY_INTERVAL * 1000),
        }
        try:
            fits, *answer = await self._scripts.run("allot", name, self._gateway, *limits.values())
        except Unavailable:
            allotted.refused_at, allotted.later = _now(), None
            return
        if not fits:
            allotted.refused_at, allotted.later = _now(), answer[0] / 1000
            return
        requests, milliseconds, slots = answer
        if not has_request:
            allotted.requests, allotted.window_ends = requests, began + milliseconds / 1000
        if max_concurrent:
            allotted.slots, allotted.spare = slots, spare

    async def _keep_releasing(self) -> None:
        while True:
            await self._freed.wait()
            self._freed.clear()
            names, self._surplus = self._surplus, set()
            for name in names:
                if allotted := self._allotted.get(name):
                    await self._release_slots(name, allotted, allotted.spare)

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(SLOTS_RENEWAL_INTERVAL)
            now = _now()
            held: list[tuple[str, int]] = []
            for name, allotted in list(self._allotted.items()):
                if allotted.surplus:
                    await self._release_slots(name, allotted, allotted.spare)
                if allotted.used or allotted.answering or allotted.waiting:
                    held += [(name, allotted.slots)] if allotted.slots else []
                elif allotted.slots:
                    await self._release_slots(name, allotted, 0)
                elif now >= allotted.window_ends:
                    del self._allotted[name]
                allotted.used = False
            for first in range(0, len(held), RENEWAL_BATCH):
                flat = [each for pair in held[first : first + RENEWAL_BATCH] for each in pair]
                await self._report("renew", self._gateway, round(SLOTS_LEASE * 1000), *flat)

    async def _release_slots(self, name: str, allotted: _Allotted, spare: int) -> None:
        """Free the unused slots, except `spare` slots."""
        async with allotted.lock:
            slots = min(allotted.slots, allotted.answering + allotted.waiting + spare)
            if slots < allotted.slots:
                allotted.slots = slots
                await self._report("reduce", name, self._gateway, slots, round(SLOTS_LEASE * 1000))

    async def _report(self, step: str, *arguments: str | int) -> None:
        """Report the slots of this gateway. If Valkey does not answer, the lease of the slots expires."""
        try:
            await self._scripts.run(step, *arguments)
        except Unavailable:
            return
        except Exception as error:
            if not is_away(error):
                logger.exception("the rate limits' %s failed", step)


def _now() -> float:
    return asyncio.get_running_loop().time()
