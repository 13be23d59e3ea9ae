"""Delivers webhooks. When a job ends, it POSTs the answer of /status to the URL. The receiver must answer with 200.

The store gives each delivery to one gateway at a time. If that gateway dies, another gateway delivers. So a receiver
gets a delivery at least once, and possibly twice. Redirects are not followed. Receivers on the internet are called
through the HTTP proxy, if one is set.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import aiohttp
from aiohappyeyeballs import AddrInfoType
from aiohttp.abc import AbstractResolver
from yarl import URL

from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Quota, Reservation
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.jobs.egress_proxies import NO_PROXIES, EgressProxies
from forebay_gateway.jobs.job import Job, describe_job, render
from forebay_gateway.jobs.lookups import TENANT, Lookups, NameResolver, ServiceResolver
from forebay_gateway.jobs.receivers import Receivers
from forebay_gateway.jobs.store import Delivery, JobStore, Unavailable, retry_until_available
from forebay_gateway.metrics import WEBHOOKS
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)

WEBHOOK_ATTEMPTS = 3
WEBHOOK_RETRY_INTERVAL = 10.0
"""Seconds between two attempts, as at RunPod."""

WEBHOOK_TIMEOUT = 10.0
"""Seconds for the connection and the head of the answer. The body is not read."""

CONCURRENT_WEBHOOKS = 16
"""Concurrent deliveries of one endpoint by one gateway."""

MAX_WEBHOOKS = 256
"""Concurrent deliveries of all endpoints by one gateway. A namespace has a share of them, as of other budgets."""

WEBHOOKS_FLOOR = 2
"""Concurrent deliveries that a namespace may always have."""

WEBHOOK_ROOM_SECONDS = 60.0
"""Seconds for which a delivery waits for memory. Then the attempt has failed."""

WEBHOOK_OVERHEAD = 4 << 10
"""Bytes of memory of one delivery without its content."""

ID_HEADER = "webhook-id"
"""The header with an ID that is the same when the same end of a job is delivered again (standardwebhooks.com)."""


class Webhooks:
    """Delivers webhooks. Use it as an async context manager. At its end, other gateways take over undelivered webhooks
    immediately.

    Args:
        answers: the budget for the content in memory.
        share: a namespace's part of MAX_WEBHOOKS.
        proxies: the HTTP proxies for receivers that are not Services.
        pause: seconds between two attempts.
    """

    def __init__(
        self,
        store: JobStore,
        answers: Quota,
        scheduler: FairScheduler,
        receivers: Receivers,
        *,
        share: float = 0.5,
        proxies: EgressProxies = NO_PROXIES,
        pause: float = WEBHOOK_RETRY_INTERVAL,
    ) -> None:
        self._store = store
        self._receivers = receivers
        self._proxies = proxies
        self._pause = pause
        self._answers = answers
        self._scheduler = scheduler
        self._lookups = Lookups(share)
        self._places = Quota(MAX_WEBHOOKS, share, WEBHOOKS_FLOOR)
        self._running: Counter[EndpointKey] = Counter()
        self._passed_over: dict[str, dict[EndpointKey, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._closing = False
        store.deliverable.add(self._wake)

    async def __aenter__(self) -> "Webhooks":
        self._session = _open_session(NameResolver(self._lookups), self._receivers.check_address)
        resolver = ServiceResolver(self._lookups, self._receivers)
        self._services = _open_session(resolver, self._receivers.check_service_address)
        self._proxied = _open_session(NameResolver(self._lookups), lambda _: None)  # it connects only to proxies
        return self

    async def __aexit__(self, *_: object) -> None:
        self._draining = self._closing = True
        for session in (self._session, self._services, self._proxied):
            await session.close()  # before the tasks are cancelled, see ApiServer.close
        self._lookups.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Claim no more deliveries, and wait for those in progress.

        If no other gateway would deliver the due webhooks, deliver them first.
        """
        while self._tasks and not self._store.outlives_gateway:
            await asyncio.wait(self._tasks)
        self._draining = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _wake(self, key: EndpointKey) -> None:
        """Start one more task that delivers the webhooks of an endpoint, as soon as its namespace has room for one."""
        if self._draining or self._running[key] >= CONCURRENT_WEBHOOKS:
            return
        if not self._places.try_acquire(key[0]):
            self._passed_over.setdefault(key[0], {})[key] = None
            return
        self._running[key] += 1
        task = asyncio.create_task(self._deliver_due(key))
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, key))

    def _end(self, key: EndpointKey, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release(key[0])
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        self._wake_passed_over()

    def _wake_passed_over(self) -> None:
        """Start a task for the next endpoint of a namespace that has room again."""
        for namespace, keys in self._passed_over.items():
            if self._places.has_room(namespace, 1):
                key = next(iter(keys))
                del keys[key]
                if not keys:
                    del self._passed_over[namespace]
                self._wake(key)
                return

    async def _deliver_due(self, key: EndpointKey) -> None:
        """Deliver the webhooks of an endpoint one after the other until no webhook is due."""
        TENANT.set(key[0])
        try:
            while not self._draining:
                delivery, left = await self._store.claim_delivery(key)
                if delivery is None:
                    return
                if left:
                    self._wake(key)
                await self._deliver(delivery)
        except Unavailable:
            return  # the store notifies again that some are due
        except Exception:
            logger.exception("could not deliver webhooks of %s/%s", *key)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            trouble = await self._try(delivery)
        except asyncio.CancelledError:
            with suppress(Unavailable):  # it is due again when its claim expires
                await self._store.postpone_delivery(delivery, 0, tried=False)
            raise
        except Exception as error:
            logger.exception("could not deliver the webhook of job %s", delivery.job.id)
            trouble = repr(error)
        await retry_until_available(partial(self._end_attempt, delivery, trouble))

    async def _end_attempt(self, delivery: Delivery, trouble: str) -> None:
        """End a delivery, or make it due again if another attempt is left. `trouble` is "" if the webhook was
        delivered."""
        if trouble and self._closing:
            await self._store.postpone_delivery(delivery, 0, tried=False)
        elif trouble and delivery.tries + 1 < WEBHOOK_ATTEMPTS:
            await self._store.postpone_delivery(delivery, self._pause, tried=True)
            logger.info("the webhook of job %s: %s", delivery.job.id, trouble)
        else:
            await self._store.end_delivery(delivery)
            WEBHOOKS.labels("failed" if trouble else "delivered").inc()
            if trouble:
                logger.warning("the webhook of job %s was not delivered: %s", delivery.job.id, trouble)

    async def _try(self, delivery: Delivery) -> str:
        """Try to deliver. Returns the error, or "" after a delivery."""
        job = delivery.job
        with Reservation(self._answers, job.endpoint[0]) as reserved:
            if not await reserved.grow(WEBHOOK_OVERHEAD + job.output_size, WEBHOOK_ROOM_SECONDS):
                return "there was no memory for it (kept_bytes)"
            content = await self._read(delivery)
            return await self._post(job, content) if content else "its result has expired"

    async def _read(self, delivery: Delivery) -> bytes:
        """Render the content about a job; b"" if it has expired. Each namespace reads one large output at a time."""
        job = delivery.job
        if job.output_size <= UNCOUNTED_BYTES:
            return render(describe_job(job)) if job.state.final else b""
        async with self._store.output_lock(job):
            whole = await retry_until_available(partial(self._store.read_delivery, delivery))
            async with self._scheduler.exclusive_step(job.endpoint[0]):
                return render(describe_job(whole)) if whole else b""

    async def _post(self, job: Job, content: bytes) -> str:
        """POST the content. Returns the error, or "" if the receiver answered 200."""
        ended = round((job.finished or 0) * 1000)
        headers = {"Content-Type": "application/json", ID_HEADER: f"{job.id}-{ended}"}
        try:
            url = URL(job.submission.webhook)
            session, proxy = self._services, ""
            if not self._receivers.is_service(url.raw_host or "", job.endpoint[0]):
                session, proxy = self._session, self._proxies.find(url)
            if proxy:
                await self._check_proxied(url)
                session = self._proxied
            async with session.post(
                url, data=content, headers=headers, allow_redirects=False, proxy=proxy or None
            ) as reply:
                return "" if reply.status == 200 else f"it answered {reply.status}"
        except (OSError, aiohttp.ClientError, ValueError, TimeoutError) as error:
            return str(error) or repr(error)

    async def _check_proxied(self, url: URL) -> None:
        """Raise OSError if the proxy must not call a URL.

        A name that only the proxy can look up is allowed. The proxy's own rules must then protect internal addresses.
        """
        host = url.raw_host or ""
        self._receivers.check_host_for_proxy(host)
        try:
            found = await self._lookups.look_up(host, url.port or 0, socket.AF_UNSPEC, socket.AI_ADDRCONFIG)
        except socket.gaierror:
            return
        for *_, address in found:
            self._receivers.check_address(str(address[0]))


def _open_session(resolver: AbstractResolver, check: Callable[[str], None]) -> aiohttp.ClientSession:
    """Open a session that connects only to addresses that pass `check`. For other addresses `check` raises OSError."""

    def open_socket(address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = address
        check(str(place[0]))
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        limit=0, force_close=True, use_dns_cache=False, resolver=resolver, socket_factory=open_socket
    )
    timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
