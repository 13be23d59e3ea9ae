"""Runs Lua scripts in Valkey, or Redis from 7.0 on, for the stores of jobs, rate limits and documents.

Each step is one call of a script, and so atomic. Every step may run twice: after a lost connection it is unknown
whether Valkey has done the step.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from redis import asyncio as valkey
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from forebay_gateway.jobs.store import Full, Unavailable

logger = logging.getLogger(__name__)

SCRIPT_RETRY_TIMEOUT = 10.0
"""Seconds for which a step is retried while Valkey does not answer. A restart takes less."""

SCRIPT_RETRY_INTERVAL = 0.2
"""Seconds between two tries."""

MAX_VALKEY_CONNECTIONS = 32

_CONNECTION_ERRORS = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, InvalidResponse, OSError)
"""Errors of a lost connection. An InvalidResponse comes from another program: the address of a Service without pods may
belong to one."""

_TRANSIENT_REFUSALS = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "READONLY", "UNKILLABLE")
"""Refusals that are temporary or need an administrator: a failover, a full disk, another client's long script."""


class Scripts:
    """A script with its steps.

    Attributes:
        trouble: why Valkey does not answer; "" while it does.
    """

    def __init__(self, client: valkey.Redis, text: str) -> None:
        self._script = client.register_script(f"#!lua flags=allow-oom\n{text}")
        self._growing = client.register_script(f"#!lua\n{text}")
        self._pending: set[asyncio.Future[Any]] = set()
        self.trouble = ""

    async def wait_until_idle(self) -> None:
        """Wait for all running calls, so that the client can be closed."""
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def run(self, step: str, *arguments: str | float, growing: bool = False) -> Any:
        """Run a step. Returns its result. Raises Full and Unavailable.

        A step that is `growing` is refused if Valkey has no memory left.
        """
        script = self._growing if growing else self._script
        return await self._try(lambda: script(args=[step, *arguments]))

    async def _try(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call Valkey, with retries while it does not answer."""
        deadline = asyncio.get_running_loop().time() + SCRIPT_RETRY_TIMEOUT
        while True:
            try:
                answer = await self._call(call)
            except OutOfMemoryError as error:
                raise Full from error
            except Exception as error:
                if not is_away(error):
                    raise
                if not self.trouble:
                    logger.error("Valkey does not answer: %s", error)
                self.trouble = f"Valkey does not answer: {error}"
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable from error
                await asyncio.sleep(SCRIPT_RETRY_INTERVAL)
            else:
                if self.trouble:
                    logger.info("Valkey answers again")
                self.trouble = ""
                return answer

    async def _call(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Shielded: cancelling a Redis command in flight would force its connection to be discarded."""
        task = asyncio.ensure_future(call())
        self._pending.add(task)
        task.add_done_callback(self._forget_call)
        return await asyncio.shield(task)

    def _forget_call(self, task: asyncio.Future[Any]) -> None:
        self._pending.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here, because the caller may have been cancelled


def connect_valkey(url: str) -> valkey.Redis:
    """A client for redis://, rediss://, valkey:// and valkeys:// URLs. The query may have redis-py's options."""
    scheme = urlsplit(url).scheme
    url = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme) + url[len(scheme) :]
    pool = valkey.BlockingConnectionPool.from_url(
        url,
        decode_responses=True,
        encoding_errors="surrogatepass",
        max_connections=MAX_VALKEY_CONNECTIONS,
        timeout=SCRIPT_RETRY_TIMEOUT,
        socket_connect_timeout=3,
        socket_timeout=5,
        socket_keepalive=True,
        health_check_interval=5,
        retry=Retry(NoBackoff(), 1),
    )
    return valkey.Redis.from_pool(pool)


def is_away(error: Exception) -> bool:
    """Whether the error means that Valkey is unavailable now. uvloop raises RuntimeError for a closed connection."""
    if isinstance(error, ResponseError) and not isinstance(error, _CONNECTION_ERRORS):
        return str(error).startswith(_TRANSIENT_REFUSALS)
    return isinstance(error, _CONNECTION_ERRORS) or (isinstance(error, RuntimeError) and "closed" in str(error))
