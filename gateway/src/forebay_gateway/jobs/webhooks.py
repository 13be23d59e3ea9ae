"""Tells a job's webhook of its end: a POST with what /status answers, which must be answered with 200.

A URL comes from a client, so it may lead only to where a client could go by itself: addresses of the internet, and
networks that the operator of the gateway allows. The very address that is connected to is looked at, however the URL
spells it; redirects are not followed.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import aiohttp
from aiohappyeyeballs import AddrInfoType

from forebay_gateway.fairness.pacing import FairScheduler
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Quota, Reservation
from forebay_gateway.jobs.job import Job, describe_job, render
from forebay_gateway.jobs.store import JobStore, retry_until_available
from forebay_gateway.metrics import WEBHOOKS
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)

WEBHOOK_ATTEMPTS = 3
WEBHOOK_RETRY_INTERVAL = 10.0
"""Seconds between two tries, as at RunPod."""

WEBHOOK_TIMEOUT = 10.0
"""For a connection and the head of an answer; its body is not read."""

CONCURRENT_WEBHOOKS = 16
"""Of one endpoint."""

WEBHOOK_ROOM_SECONDS = 60.0
"""For which one waits for room; then it is not delivered."""

WEBHOOK_OVERHEAD = 4 << 10
"""Bytes of one that waits besides its content."""

EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
"""IPv6 addresses that end with an IPv4 address (RFC 6052, RFC 4291, RFC 2765); of others ipaddress knows."""

INSIDE = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's WireServer, in an address of the internet
            "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
            "2001::/23",  # protocols (RFC 2928), Teredo among them, which embeds IPv4
            "3fff::/20",  # documentation (RFC 9637)
            "5f00::/16",  # segments (RFC 9602)
            "64:ff9b:1::/48",  # NAT64 of one's own (RFC 8215)
        ),
    )
)
"""Networks that are not the internet, though Python 3.11 or 3.13 takes them for it."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Webhooks:
    """Use it as an async context manager; what is not delivered when it ends is not delivered. `answers` bounds what
    waits."""

    def __init__(
        self,
        store: JobStore,
        answers: Quota,
        scheduler: FairScheduler,
        allowed: Sequence[Network] = (),
        pause: float = WEBHOOK_RETRY_INTERVAL,
    ) -> None:
        self._store = store
        self._allowed = allowed
        self._pause = pause
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[EndpointKey, asyncio.Semaphore] = {}
        self._answers = answers
        self._scheduler = scheduler

    async def __aenter__(self) -> "Webhooks":
        connector = aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False, socket_factory=self._open)
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT)
        cookies = aiohttp.DummyCookieJar()
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=cookies)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()  # before the tasks are cancelled, see ApiServer.close
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def deliver(self, job: Job) -> None:
        """Tell of a job that is over, where it asked for that."""
        if not job.submission.webhook:
            return
        task = asyncio.create_task(
            self._deliver(job, render(describe_job(job)) if job.output_size <= UNCOUNTED_BYTES else b"")
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, job: Job, content: bytes) -> None:
        """`content` is b"" where the output is large, which is read once there is room for it."""
        with Reservation(self._answers, job.endpoint[0]) as waiting:
            if content:
                fits = waiting.resize(WEBHOOK_OVERHEAD + len(content))
            else:
                fits = await waiting.grow(WEBHOOK_OVERHEAD + job.output_size, WEBHOOK_ROOM_SECONDS)
            if not fits:
                trouble = "too many wait"
            elif content := content or await self._read(job):
                trouble = await self._try(job, content)
            else:
                trouble = "its result is gone"
        WEBHOOKS.labels("failed" if trouble else "delivered").inc()
        if trouble:
            logger.warning("the webhook of job %s was not delivered: %s", job.id, trouble)

    async def _try(self, job: Job, content: bytes) -> str:
        """What is wrong; "" where it was told."""
        slots = self._slots.setdefault(job.endpoint, asyncio.Semaphore(CONCURRENT_WEBHOOKS))
        for number in range(WEBHOOK_ATTEMPTS):
            if number:
                await asyncio.sleep(self._pause)
            async with slots:
                trouble = await self._post(job.submission.webhook, content)
            if not trouble:
                break
            logger.info("the webhook of job %s: %s", job.id, trouble)
        return trouble

    async def _read(self, job: Job) -> bytes:
        """What is told of a job with a large output, of which each namespace reads one at a time; b"" where it is
        gone."""
        async with self._store.turn(job):
            whole = await retry_until_available(partial(self._store.whole, job))
            async with self._scheduler.exclusive_step(job.endpoint[0]):
                return render(describe_job(whole)) if whole else b""

    async def _post(self, url: str, content: bytes) -> str:
        """What is wrong; "" where it was answered with 200."""
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=content, headers=headers, allow_redirects=False) as reply:
                return "" if reply.status == 200 else f"it answered {reply.status}"
        except (OSError, aiohttp.ClientError, ValueError, TimeoutError) as error:
            return str(error) or repr(error)

    def _open(self, address: AddrInfoType) -> socket.socket:
        """A socket for an address that may be called. Raises OSError."""
        family, kind, protocol, _, place = address
        if not is_allowed(str(place[0]), self._allowed):
            raise OSError(f"{place[0]} is no address of the internet, and not in webhook_networks")
        return socket.socket(family, kind, protocol)


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether a webhook may go to an address: one of the internet, or of these networks."""
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:
        if any(found in network for network in EMBEDDING):
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        else:
            found = found.ipv4_mapped or found.sixtofour or found
    public = found.is_global and not found.is_multicast and not getattr(found, "is_site_local", False)
    public = public and not any(found in network for network in INSIDE)
    return public or any(found in network for network in networks)


def read_networks(text: str) -> list[Network]:
    """Of CIDRs, separated by commas. Raises ValueError."""
    return [ipaddress.ip_network(each.strip()) for each in text.split(",") if each.strip()]
