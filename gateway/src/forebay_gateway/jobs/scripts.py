"""Steps in Valkey, or Redis from 7.0 on: each is one call of a script, and so whole. All of them may be made twice, as
who asks again cannot know whether Valkey had done it when it went away."""

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
"""Seconds for which a step is tried while Valkey does not answer: a restart takes less."""

SCRIPT_RETRY_INTERVAL = 0.2
"""Seconds between two tries."""

MAX_VALKEY_CONNECTIONS = 32

_CONNECTION_ERRORS = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, InvalidResponse, OSError)
"""An InvalidResponse is another program's: while a Service has no pod, its address may be anybody's."""

_TRANSIENT_REFUSALS = ("BUSY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "READONLY", "UNKILLABLE")
"""Refusals that end by themselves or by an administrator: a failover, a disk that is full, another's long script."""


class Scripts:
    """The steps of one script.

    Attributes:
        trouble: why Valkey does not answer; "" while it does.
    """

    def __init__(self, client: valkey.Redis, text: str) -> None:
        self._script = client.register_script(f"#!lua flags=allow-oom\n{text}")
        self._growing = client.register_script(f"#!lua\n{text}")
        self._asking: set[asyncio.Future[Any]] = set()
        self.trouble = ""

    async def settle(self) -> None:
        """Wait until nothing is asked any more, so that the client may be closed."""
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def run(self, step: str, *arguments: str | float, growing: bool = False) -> Any:
        """What a step returns. One that is `growing` is refused where Valkey has no memory left. Raises Full and
        Unavailable."""
        script = self._growing if growing else self._script
        return await self._try(lambda: script(args=[step, *arguments]))

    async def _try(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask Valkey, again where it does not answer."""
        deadline = asyncio.get_running_loop().time() + SCRIPT_RETRY_TIMEOUT
        while True:
            try:
                answer = await self._ask(ask)
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

    async def _ask(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Whoever leaves meanwhile does not break off what is asked, which would cost the connection."""
        task = asyncio.ensure_future(ask())
        self._asking.add(task)
        task.add_done_callback(self._asked)
        return await asyncio.shield(task)

    def _asked(self, task: asyncio.Future[Any]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # which nobody may have waited for


def connect(url: str) -> valkey.Redis:
    """A client for redis://, rediss://, valkey:// and valkeys:// URLs, with what redis-py takes in the query."""
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
    """Whether it says that Valkey can do nothing now; RuntimeError is uvloop's for a connection that was closed."""
    if isinstance(error, ResponseError) and not isinstance(error, _CONNECTION_ERRORS):
        return str(error).startswith(_TRANSIENT_REFUSALS)
    return isinstance(error, _CONNECTION_ERRORS) or (isinstance(error, RuntimeError) and "closed" in str(error))
