"""Tells a job's webhook of its end: a POST with what /status answers, which must be answered with 200.

What is to be delivered is in the store, which gives each delivery to one gateway at a time: where that dies, another
delivers. So a receiver is told at least once, and may be told twice. Redirects are not followed.
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

from forebay_gateway.fairness.pacing import FairScheduler
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Quota, Reservation
from forebay_gateway.jobs.job import Job, describe_job, render
from forebay_gateway.jobs.lookups import TENANT, Lookups, NameResolver, ServiceResolver
from forebay_gateway.jobs.receivers import Receivers
from forebay_gateway.jobs.store import Delivery, JobStore, Unavailable, retry_until_available
from forebay_gateway.metrics import WEBHOOKS
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)

WEBHOOK_ATTEMPTS = 3
WEBHOOK_RETRY_INTERVAL = 10.0
"""Seconds between two tries, as at RunPod."""

WEBHOOK_TIMEOUT = 10.0
"""For a connection and the head of an answer; its body is not read."""

CONCURRENT_WEBHOOKS = 16
"""Of one endpoint, by one gateway."""

MAX_WEBHOOKS = 256
"""Of all endpoints, by one gateway. Of them a namespace has its share, as of other budgets."""

WEBHOOKS_FLOOR = 2
"""So many a namespace may have whatever the others do."""

WEBHOOK_ROOM_SECONDS = 60.0
"""For which one waits for memory; then it counts as tried."""

WEBHOOK_OVERHEAD = 4 << 10
"""Bytes of one besides its content."""

ID_HEADER = "webhook-id"
"""Alike when the same end of a job is told again (standardwebhooks.com)."""


class Webhooks:
    """Use it as an async context manager; what is not delivered when it ends is due at once for other gateways.

    `answers` bounds what is in memory; `share` tells a namespace's part of MAX_WEBHOOKS.
    """

    def __init__(
        self,
        store: JobStore,
        answers: Quota,
        scheduler: FairScheduler,
        receivers: Receivers,
        *,
        share: float = 0.5,
        pause: float = WEBHOOK_RETRY_INTERVAL,
    ) -> None:
        self._store = store
        self._receivers = receivers
        self._pause = pause
        self._answers = answers
        self._scheduler = scheduler
        self._lookups = Lookups(share)
        self._places = Quota(MAX_WEBHOOKS, share, WEBHOOKS_FLOOR)
        self._at_once: Counter[EndpointKey] = Counter()
        self._passed_over: dict[str, dict[EndpointKey, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._closing = False
        store.deliverable.add(self._wake)

    async def __aenter__(self) -> "Webhooks":
        self._session = _open_session(NameResolver(self._lookups), self._receivers.check_address)
        resolver = ServiceResolver(self._lookups, self._receivers)
        self._services = _open_session(resolver, self._receivers.check_service_address)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._draining = self._closing = True
        for session in (self._session, self._services):
            await session.close()  # before the tasks are cancelled, see ApiServer.close
        self._lookups.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Claim nothing more, and wait until what is being delivered is done with. What no other gateway will deliver
        is delivered before, as far as it is due."""
        while self._tasks and not self._store.outlives_gateway:
            await asyncio.wait(self._tasks)
        self._draining = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _wake(self, key: EndpointKey) -> None:
        """Have one more task deliver the webhooks of an endpoint, as soon as its namespace has a place for it."""
        if self._draining or self._at_once[key] >= CONCURRENT_WEBHOOKS:
            return
        if not self._places.take(key[0]):
            self._passed_over.setdefault(key[0], {})[key] = None
            return
        self._at_once[key] += 1
        task = asyncio.create_task(self._deliver_due(key))
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, key))

    def _end(self, key: EndpointKey, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.give(key[0])
        self._at_once[key] -= 1
        if not self._at_once[key]:
            del self._at_once[key]
        self._wake_passed_over()

    def _wake_passed_over(self) -> None:
        """Have a namespace that has a place for it now deliver the webhooks of its next endpoint."""
        for namespace, keys in self._passed_over.items():
            if self._places.has_room(namespace, 1):
                key = next(iter(keys))
                del keys[key]
                if not keys:
                    del self._passed_over[namespace]
                self._wake(key)
                return

    async def _deliver_due(self, key: EndpointKey) -> None:
        """Deliver an endpoint's webhooks, one after the other, until none is due."""
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
            return  # the store says again that some are due
        except Exception:
            logger.exception("delivering webhooks of %s/%s", *key)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            trouble = await self._try(delivery)
        except asyncio.CancelledError:
            with suppress(Unavailable):  # it is due then when its claim is over
                await self._store.postpone_delivery(delivery, 0, tried=False)
            raise
        except Exception as error:
            logger.exception("the webhook of job %s", delivery.job.id)
            trouble = repr(error)
        await retry_until_available(partial(self._settle, delivery, trouble))

    async def _settle(self, delivery: Delivery, trouble: str) -> None:
        """Have a delivery tried again where that may help. `trouble` is "" where it was delivered."""
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
        """What is wrong; "" where it was delivered."""
        job = delivery.job
        with Reservation(self._answers, job.endpoint[0]) as kept:
            if not await kept.grow(WEBHOOK_OVERHEAD + job.output_size, WEBHOOK_ROOM_SECONDS):
                return "there was no memory for it (kept_bytes)"
            content = await self._read(delivery)
            return await self._post(job, content) if content else "its result is gone"

    async def _read(self, delivery: Delivery) -> bytes:
        """What is told of a job. Of large outputs each namespace reads one at a time. b"" where it is gone."""
        job = delivery.job
        if job.output_size <= UNCOUNTED_BYTES:
            return render(describe_job(job)) if job.state.final else b""
        async with self._store.turn(job):
            whole = await retry_until_available(partial(self._store.read_delivery, delivery))
            async with self._scheduler.exclusive_step(job.endpoint[0]):
                return render(describe_job(whole)) if whole else b""

    async def _post(self, job: Job, content: bytes) -> str:
        """What is wrong; "" where it was answered with 200."""
        ended = round((job.finished or 0) * 1000)
        headers = {"Content-Type": "application/json", ID_HEADER: f"{job.id}-{ended}"}
        try:
            url = URL(job.submission.webhook)
            inside = self._receivers.is_service(url.raw_host or "", job.endpoint[0])
            session = self._services if inside else self._session
            async with session.post(url, data=content, headers=headers, allow_redirects=False) as reply:
                return "" if reply.status == 200 else f"it answered {reply.status}"
        except (OSError, aiohttp.ClientError, ValueError, TimeoutError) as error:
            return str(error) or repr(error)


def _open_session(resolver: AbstractResolver, check: Callable[[str], None]) -> aiohttp.ClientSession:
    """A session that connects only to addresses that pass the check, which raises OSError for others."""

    def open_socket(address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = address
        check(str(place[0]))
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        limit=0, force_close=True, use_dns_cache=False, resolver=resolver, socket_factory=open_socket
    )
    timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
