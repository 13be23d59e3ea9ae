"""Tells a job's webhook of its end: a POST with what /status answers, which must be answered with 200.

A URL comes from a client, so it may lead only to where a client could go by itself: addresses of the internet, and
networks that the operator of the gateway allows. What a name stands for is looked at in the very lookup that the
connection uses, so that it cannot be another a moment later; redirects are not followed.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from forebay_gateway.jobs.job import Job, render, tell
from forebay_gateway.metrics import WEBHOOKS

logger = logging.getLogger(__name__)

TRIES = 3
PAUSE = 10.0
"""Seconds between two tries, as at RunPod."""

SECONDS = 10.0
"""For an answer."""

AT_ONCE = 64

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Webhooks:
    """Use it as an async context manager; what is not delivered when it ends is not delivered."""

    def __init__(self, allowed: Sequence[Network] = (), pause: float = PAUSE) -> None:
        self._allowed = allowed
        self._pause = pause
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Webhooks":
        connector = aiohttp.TCPConnector(
            limit=AT_ONCE, force_close=True, use_dns_cache=False, resolver=_Resolver(self._allowed)
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def deliver(self, job: Job) -> None:
        """Tell of a job that is over, where it asked for that, as it is now."""
        if job.submission.webhook:
            task = asyncio.create_task(self._deliver(job.id, job.submission.webhook, render(tell(job)).encode()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, job_id: str, url: str, content: bytes) -> None:
        for number in range(TRIES):
            if number:
                await asyncio.sleep(self._pause)
            try:
                self._check(url)
                answer = self._session.post(
                    url, data=content, headers={"Content-Type": "application/json"}, allow_redirects=False
                )
                async with answer as reply:
                    if reply.status == 200:
                        WEBHOOKS.labels("delivered").inc()
                        return
                    trouble = f"it answered {reply.status}"
            except (OSError, aiohttp.ClientError, ValueError) as error:
                trouble = str(error) or repr(error)
            logger.info("the webhook of job %s: %s", job_id, trouble)
        WEBHOOKS.labels("failed").inc()
        logger.warning("the webhook of job %s was not delivered: %s", job_id, trouble)

    def _check(self, url: str) -> None:
        """An address in a URL is not looked up. Raises OSError."""
        host = urlsplit(url).hostname or ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        if not is_allowed(host, self._allowed):
            raise _forbidden(host)


class _Resolver(ThreadedResolver):
    """Finds only addresses that may be called."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        super().__init__()
        self._networks = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if usable := [each for each in found if is_allowed(each["host"], self._networks)]:
            return usable
        raise _forbidden(host)


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether a webhook may go to an address: one of the internet, or of these networks."""
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in networks) or (found.is_global and not found.is_multicast)


def read_networks(text: str) -> list[Network]:
    """Of CIDRs, separated by commas. Raises ValueError."""
    return [ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip()]


def _forbidden(host: str) -> OSError:
    return OSError(f"{host} is no address of the internet, and not in webhook_networks")
