"""Schedules tenants in the event loop, so that a tenant that sends much does not delay the requests of others.

In one round of the loop each tenant has at most one read that is large, or the first of a connection. Long steps of one
tenant have pauses between them. So every round is short.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress

from forebay_gateway.fairness.quotas import TenantLocks

LARGE_READ_BYTES = 32 << 10
"""Bytes above which a read is large. A token takes a few hundred."""

SHORT_STEP_SECONDS = 0.003
"""CPU seconds up to which a step is short. After a short step the same tenant may have another one immediately."""

COOLDOWN_FACTOR = 200
"""After a longer step its tenant waits this many times as long as the step. So it gets half a percent of the time."""


class Reader:
    """The reading of one connection. It pauses while at least one reason to pause exists."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reasons: set[str] = set()

    def pause(self, reason: str) -> None:
        """Stop reading. Each call stops the transport again, because it may have resumed reading."""
        self._reasons.add(reason)
        if not self._transport.is_closing():
            with suppress(RuntimeError):  # uvloop raises it if it has just closed the transport
                self._transport.pause_reading()

    def release(self, reason: str) -> None:
        """Read on, unless another reason to pause exists."""
        if reason in self._reasons:
            self._reasons.discard(reason)
            if not self._reasons and not self._transport.is_closing():
                with suppress(RuntimeError):  # as in `pause`
                    self._transport.resume_reading()


class FairScheduler:
    """Gives tenants their turns. `cooldown_factor` 0 means that there is only one tenant."""

    def __init__(self, cooldown_factor: float = COOLDOWN_FACTOR) -> None:
        self._cooldown_factor = cooldown_factor
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}
        self._begun = False
        self._step_locks = TenantLocks()
        self._free_at: dict[Hashable, float] = {}

    def wait(self, tenant: Hashable, callback: Callable[[], None]) -> None:
        """Call `callback` when it is the tenant's turn, not before the next round."""
        self._waiting.setdefault(tenant, deque()).append(callback)
        if not self._begun:
            self._begun = True
            asyncio.get_running_loop().call_soon(self._run_round)

    async def wait_for_turn(self, tenant: Hashable) -> None:
        """Wait for the tenant's turn."""
        came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wait(tenant, lambda: None if came.done() else came.set_result(None))
        await came

    @asynccontextmanager
    async def exclusive_step(self, tenant: Hashable) -> AsyncIterator[None]:
        """Wait until the tenant may have a long step. The context is this step and must not await anything."""
        async with self._step_locks.of(tenant):
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
