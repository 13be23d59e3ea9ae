"""Looks up the names of webhooks' receivers, in separate threads. The webhooks' HTTP sessions use it.

With separate threads, a slow name server does not delay other connections of the gateway. With a share for each
namespace, it does not delay other namespaces' webhooks.
"""

import asyncio
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.jobs.receivers import Receivers

MAX_LOOKUPS = 64
"""Concurrent lookups, each in a thread. A namespace has a share of them, as of other budgets."""

LOOKUPS_FLOOR = 2
"""Concurrent lookups that a namespace may always have."""

TENANT = ContextVar[str]("TENANT")
"""The namespace for which a task connects."""


class Lookups:
    """The lookups of all namespaces. `share` is a namespace's part of MAX_LOOKUPS."""

    def __init__(self, share: float) -> None:
        self._places = Quota(MAX_LOOKUPS, share, LOOKUPS_FLOOR)
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, "webhooks-dns")

    async def look_up(self, name: str, port: int, family: int, flags: int) -> list[Any]:
        """Look up a name, as socket.getaddrinfo does. Raises OSError."""
        tenant, loop = TENANT.get(), asyncio.get_running_loop()
        if not self._places.try_acquire(tenant):
            raise OSError(f"too many names are being looked up for webhooks of {tenant}")

        def release_place(_: Future[Any]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._places.release, tenant)

        lookup: Future[Any] = self._threads.submit(socket.getaddrinfo, name, port, family, socket.SOCK_STREAM, 0, flags)
        lookup.add_done_callback(release_place)
        addresses: list[Any] = await asyncio.wrap_future(lookup)
        return addresses

    def close(self) -> None:
        """Stop the threads. Lookups that have not begun are cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class NameResolver(AbstractResolver):
    """Resolves names for aiohttp with the system's resolver."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a name. Raises OSError."""
        return _results(host, port, await self._lookups.look_up(host, port, family, socket.AI_ADDRCONFIG))

    async def close(self) -> None:
        """Do nothing, because `Lookups` owns the threads."""


class ServiceResolver(AbstractResolver):
    """Resolves only names of Services, by the cluster's DNS, without a search list or an alias."""

    def __init__(self, lookups: Lookups, receivers: Receivers) -> None:
        self._lookups = lookups
        self._receivers = receivers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a name. Raises OSError."""
        name = self._receivers.service_name(host)
        addresses = await self._lookups.look_up(f"{name}.", port, family, socket.AI_ADDRCONFIG | socket.AI_CANONNAME)
        canonical = next((each for *_, each, _ in addresses if each), name).rstrip(".").lower()
        if canonical != name:
            raise OSError(f"{host} is an alias of {canonical}: only Services with addresses of their own are called")
        return _results(host, port, addresses)

    async def close(self) -> None:
        """Do nothing, because `Lookups` owns the threads."""


def _results(host: str, port: int, addresses: list[Any]) -> list[ResolveResult]:
    return [
        ResolveResult(
            hostname=host, host=str(address[0]), port=port, family=family, proto=proto, flags=socket.AI_NUMERICHOST
        )
        for family, _, proto, _, address in addresses
    ]
