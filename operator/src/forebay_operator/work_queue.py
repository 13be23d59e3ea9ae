"""A work queue of keys, after client-go's: queued once, handled by one worker at a time, retried with backoff.

The event source adds keys, and the workers take them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

FIRST_REQUEUE_DELAY = 0.1
MAX_REQUEUE_DELAY = 60.0
"""Seconds before the first retry, and the most seconds between two retries. Each delay is twice the previous one."""


class WorkQueue(Generic[Item]):
    """A queue of keys, for one event loop.

    A key that is added while it waits is not queued twice. A key that is added while a worker has it is queued again
    when that worker is done. So no event is lost and no two workers have the same key. Tenants (`tenant_of`) take
    turns, so a tenant with thousands of keys does not delay others.
    """

    def __init__(self, tenant_of: Callable[[Item], Hashable] = lambda _: None) -> None:
        self._tenant_of = tenant_of
        self._arrivals: asyncio.Queue[None] = asyncio.Queue()
        self._ready: dict[Hashable, deque[Item]] = {}
        """The queued keys by tenant. The first tenant is next."""
        self._waiting: set[Item] = set()
        self._working: set[Item] = set()
        self._later_timers: dict[Item, asyncio.TimerHandle] = {}
        self._to_requeue: set[Item] = set()
        self._failures: dict[Item, int] = {}
        self._retry_timers: dict[Item, asyncio.TimerHandle] = {}
        self._progress = time.monotonic()

    @property
    def depth(self) -> int:
        """The number of keys that wait for a worker."""
        return len(self._waiting)

    @property
    def retries(self) -> int:
        """The number of keys that failed and wait for their retry."""
        return len(self._retry_timers)

    def stalled_for(self) -> float:
        """Seconds since a worker last got or returned a key; 0 while there is nothing to do."""
        return time.monotonic() - self._progress if self._waiting or self._working else 0.0

    def add(self, key: Item) -> None:
        """Queue a key."""
        if key in self._working:
            self._to_requeue.add(key)
        elif key not in self._waiting:
            if not self._waiting and not self._working:
                self._progress = time.monotonic()
            self._waiting.add(key)
            self._ready.setdefault(self._tenant_of(key), deque()).append(key)
            self._arrivals.put_nowait(None)

    def add_later(self, key: Item, delay: float) -> None:
        """Queue a key in `delay` seconds. If a key has several delays, the earliest applies, as with client-go's
        AddAfter."""
        loop = asyncio.get_running_loop()
        if timer := self._later_timers.get(key):
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._later_timers[key] = loop.call_later(delay, self._add_due, key)

    def _add_due(self, key: Item) -> None:
        del self._later_timers[key]
        self.add(key)

    async def get(self) -> Item:
        """Wait for the next key. The caller must return it with `done`, whatever happens."""
        await self._arrivals.get()
        tenant = next(iter(self._ready))
        line = self._ready.pop(tenant)
        key = line.popleft()
        if line:
            self._ready[tenant] = line
        self._waiting.discard(key)
        self._working.add(key)
        self._progress = time.monotonic()
        return key

    def done(self, key: Item, failed: bool = False) -> float | None:
        """Return a key. Returns the seconds until a failed key is queued again."""
        self._working.discard(key)
        self._progress = time.monotonic()
        if retry := self._retry_timers.pop(key, None):
            retry.cancel()
        if key in self._to_requeue:
            self._to_requeue.discard(key)
            self.add(key)
        if not failed:
            self._failures.pop(key, None)
            return None
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(MAX_REQUEUE_DELAY, FIRST_REQUEUE_DELAY * 2.0 ** min(failures - 1, 16))
        self._retry_timers[key] = asyncio.get_running_loop().call_later(delay, self._retry, key)
        return delay

    def retry_now(self) -> None:
        """Queue all failed keys immediately, because the cause of their failure has passed."""
        for key, timer in list(self._retry_timers.items()):
            timer.cancel()
            self._failures.pop(key, None)
            self._retry(key)

    def _retry(self, key: Item) -> None:
        del self._retry_timers[key]
        self.add(key)
