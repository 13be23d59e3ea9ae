"""Who sends much at once waits for others: in one round of the event loop each tenant has one first or large read, and
long steps of one tenant are apart. So a round is short whatever anybody sends, and nobody else's request is late."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress

from forebay_gateway.fairness.quotas import TenantLocks

LARGE_READ_BYTES = 32 << 10
"""Bytes of one read that make it a large one. A token takes some hundred."""

SHORT_STEP_SECONDS = 0.003
"""Seconds of CPU time of a step of the event loop after which the same tenant may have another at once."""

COOLDOWN_FACTOR = 200
"""How many times as long as a longer step its tenant waits for the next: half a percent of the time is theirs."""


class Reader:
    """The reading of one connection, which several may hold up, each for a reason of its own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reasons: set[str] = set()

    def pause(self, reason: str) -> None:
        """Read nothing more. The transport may have begun to read by itself since the last time."""
        self._reasons.add(reason)
        if not self._transport.is_closing():
            with suppress(RuntimeError):  # as uvloop says of one that it closed in this very moment
                self._transport.pause_reading()

    def release(self, reason: str) -> None:
        """Read on, if nobody else holds it up."""
        if reason in self._reasons:
            self._reasons.discard(reason)
            if not self._reasons and not self._transport.is_closing():
                with suppress(RuntimeError):  # alike
                    self._transport.resume_reading()


class FairScheduler:
    """Has what one tenant does wait for others. `cooldown_factor` 0: there are no others."""

    def __init__(self, cooldown_factor: float = COOLDOWN_FACTOR) -> None:
        self._cooldown_factor = cooldown_factor
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}
        self._begun = False
        self._turns = TenantLocks()
        self._free_at: dict[Hashable, float] = {}

    def wait(self, tenant: Hashable, callback: Callable[[], None]) -> None:
        """Call `callback` when it is the tenant's turn, not before the next round."""
        self._waiting.setdefault(tenant, deque()).append(callback)
        if not self._begun:
            self._begun = True
            asyncio.get_running_loop().call_soon(self._run_round)

    async def turn(self, tenant: Hashable) -> None:
        """Wait for a turn."""
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wait(tenant, lambda: None if came.done() else came.set_result(None))
        await came

    @asynccontextmanager
    async def exclusive_step(self, tenant: Hashable) -> AsyncIterator[None]:
        """Wait until the tenant may have a long step, which is what the context does at once, without an await."""
        async with self._turns.of(tenant):
            clock = asyncio.get_running_loop().time
            if (wait := self._free_at.get(tenant, 0.0) - clock()) > 0:
                await asyncio.sleep(wait)
            began = time.thread_time()
            try:
                yield
            finally:
                cpu_seconds = time.thread_time() - began
                if cpu_seconds > SHORT_STEP_SECONDS:
                    self._free_at = {each: at for each, at in self._free_at.items() if at > clock()}
                    self._free_at[tenant] = clock() + self._cooldown_factor * cpu_seconds

    def _run_round(self) -> None:
        due = [line.popleft() for line in self._waiting.values()]
        self._waiting = {tenant: line for tenant, line in self._waiting.items() if line}
        self._begun = bool(self._waiting)
        if self._begun:
            asyncio.get_running_loop().call_soon(self._run_round)
        for callback in due:
            callback()
