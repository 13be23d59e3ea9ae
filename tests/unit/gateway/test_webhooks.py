"""Webhooks: their content, their retries, and that a slow receiver does not delay those of others."""

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.jobs import lookups
from forebay_gateway.jobs import receivers as receivers_module
from forebay_gateway.jobs import webhooks as module
from forebay_gateway.jobs.egress_proxies import NO_PROXIES, EgressProxies
from forebay_gateway.jobs.job import State
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.receivers import Receivers, read_networks
from forebay_gateway.jobs.submission import read_submission
from forebay_gateway.jobs.webhooks import CONCURRENT_WEBHOOKS, WEBHOOK_ATTEMPTS, Webhooks
from tests.waiting import until

LOOPBACK = "127.0.0.0/8"

JOBS_BYTES = 10 << 20


class Gateway:
    """A store, with the delivery of its webhooks."""

    def __init__(
        self,
        networks: str = LOOPBACK,
        *,
        answers: int = 1 << 30,
        namespaces: str = "",
        proxies: EgressProxies = NO_PROXIES,
    ) -> None:
        self.store = MemoryJobStore(JOBS_BYTES, share=1.0)
        receivers = Receivers(read_networks(networks), namespaces.split(), "cluster.local")
        self.webhooks = Webhooks(self.store, Quota(answers), FairScheduler(), receivers, proxies=proxies, pause=0.01)

    async def finish_job(
        self, url: str, namespace: str = "home", *, job_id: str = "job-1", output: str = "out"
    ) -> None:
        key = (namespace, "one")
        content = json.dumps({"input": 1, "webhook": url}).encode()
        await self.store.submit(key, job_id, read_submission(content, sync=False), "key")
        job, _ = await self.store.claim(key, [Address("10.0.0.1", 8000)], 1)
        assert job
        await self.store.finish(job, State.COMPLETED, items=[json.dumps(output)])

    async def settled(self) -> None:
        """Wait until no delivery is left."""
        await until(lambda: not self.store._webhooks)

    async def forget(self) -> None:
        for namespace in ("home", "other"):
            await self.store.forget((namespace, "one"))


@asynccontextmanager
async def running(**options: object) -> AsyncIterator[Gateway]:
    gateway = Gateway(**options)  # type: ignore[arg-type]
    async with gateway.webhooks:
        yield gateway
        await gateway.forget()


class Receiver:
    """Answers with these statuses, one after the other, once `may_answer` is set."""

    def __init__(self, *statuses: int) -> None:
        self.port = 0
        self.received: list[dict[str, object]] = []
        self.ids: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._statuses = iter(statuses)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhook"

    async def take(self, request: web.Request) -> web.Response:
        self.received.append(await request.json())
        self.ids.append(request.headers["webhook-id"])
        await self.may_answer.wait()
        return web.Response(status=next(self._statuses, 200), headers={"Location": "/elsewhere"})


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(*statuses)
    app = web.Application()
    app.router.add_post("/webhook", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        receiver.may_answer.set()
        await runner.cleanup()


async def test_a_webhook_gets_the_same_body_as_status() -> None:
    async with receiving() as receiver, running() as gateway:
        await gateway.finish_job(receiver.url)
        await gateway.settled()
        (payload,) = receiver.received
        assert (payload["id"], payload["status"], payload["output"]) == ("job-1", "COMPLETED", ["out"])


async def test_a_large_output_is_delivered_and_a_retry_has_the_same_id() -> None:
    async with receiving(500, 200) as receiver, running() as gateway:
        await gateway.finish_job(receiver.url, output="x" * 100_000)
        await gateway.settled()
        assert receiver.received[0] == receiver.received[1]
        assert receiver.ids[0] == receiver.ids[1]
        assert receiver.ids[0].startswith("job-1-")


async def test_a_retried_job_is_delivered_again_with_another_id() -> None:
    async with receiving() as receiver, running() as gateway:
        key = ("home", "one")
        content = json.dumps({"input": 1, "webhook": receiver.url}).encode()
        await gateway.store.submit(key, "job-1", read_submission(content, sync=False), "key")
        for number in (1, 2):
            job, _ = await gateway.store.claim(key, [Address("10.0.0.1", 8000)], 1)
            assert job
            await gateway.store.finish(job, State.FAILED, "why")
            await gateway.settled()
            assert len(set(receiver.ids)) == number
            await gateway.store.retry(key, "job-1", "key")


async def test_any_status_but_200_is_retried_and_redirects_are_not_followed() -> None:
    async with receiving(500, 302, 204, 200) as receiver, running() as gateway:
        await gateway.finish_job(receiver.url)
        await gateway.settled()
        assert len(receiver.received) == WEBHOOK_ATTEMPTS


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0", "１２７.０.０.１", "①②⑦.0.0.1", "127。0。0。1"],
)
async def test_no_name_reaches_an_internal_address(host: str) -> None:
    async with receiving() as receiver, running(networks="") as gateway:
        await gateway.finish_job(f"http://{host}:{receiver.port}/webhook")
        await gateway.settled()
        assert receiver.received == []


async def test_a_service_of_an_allowed_namespace_gets_the_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver has an address that only the name of the Service allows."""
    monkeypatch.setattr(receivers_module, "NO_SERVICE", ())
    resolve: Callable[..., object] = socket.getaddrinfo

    def resolve_services(host: str, port: int, *args: object, **options: object) -> object:
        if host != "sink.team-a.svc.cluster.local.":
            return resolve(host, port, *args, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, host.rstrip("."), ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve_services)
    async with receiving() as receiver:
        url = f"http://sink.team-a.svc:{receiver.port}/webhook"
        for namespaces, expected in (("", 0), ("team-b", 0), ("own", 0), ("team-a", 1)):
            async with running(networks="", namespaces=namespaces) as gateway:
                await gateway.finish_job(url)
                await gateway.settled()
                assert len(receiver.received) == expected


async def test_a_dns_server_that_does_not_answer_delays_only_its_own_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_LOOKUPS", 8)
    may_answer, asked = threading.Event(), Counter[str]()
    resolve: Callable[..., object] = socket.getaddrinfo

    def resolve_slowly(host: str, *args: object) -> object:
        asked[host] += 1
        if host == "slow.example":
            may_answer.wait(20)
            raise OSError("no such name")
        return resolve(host, *args)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_slowly)
    async with receiving() as quick, running() as gateway:
        for number in range(CONCURRENT_WEBHOOKS):
            await gateway.finish_job("http://slow.example/webhook", job_id=f"slow-{number}")
        await until(lambda: asked["slow.example"] == 4)
        await gateway.finish_job(f"http://localhost:{quick.port}/webhook", "other", job_id="quick")
        await until(lambda: quick.received)
        assert asked["slow.example"] == 4
        may_answer.set()
        await gateway.settled()


async def test_a_slow_receiver_delays_only_its_own_endpoint() -> None:
    async with receiving() as slow, receiving() as quick, running() as gateway:
        slow.may_answer.clear()
        for number in range(CONCURRENT_WEBHOOKS + 3):
            await gateway.finish_job(slow.url, job_id=f"slow-{number}")
        await gateway.finish_job(quick.url, "other", job_id="quick")
        await until(lambda: len(slow.received) == CONCURRENT_WEBHOOKS and len(quick.received) == 1)
        slow.may_answer.set()
        await gateway.settled()
        assert len(slow.received) == CONCURRENT_WEBHOOKS + 3


async def test_one_namespace_cannot_use_all_delivery_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WEBHOOKS", 8)
    async with receiving() as slow, receiving() as quick, running() as gateway:
        slow.may_answer.clear()
        for number in range(20):
            await gateway.finish_job(slow.url, job_id=f"slow-{number}")
        await gateway.finish_job(quick.url, "other", job_id="quick")
        await until(lambda: len(slow.received) == 4 and len(quick.received) == 1)
        slow.may_answer.set()
        await gateway.settled()
        assert len(slow.received) == 20


async def test_one_namespace_cannot_use_all_delivery_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WEBHOOK_OVERHEAD", 1 << 20)
    async with receiving() as slow, receiving() as quick, running(answers=5 << 20) as gateway:
        slow.may_answer.clear()
        for number in range(4):
            await gateway.finish_job(slow.url, job_id=f"slow-{number}")
        await gateway.finish_job(quick.url, "other", job_id="quick")
        await until(lambda: len(slow.received) == 2 and len(quick.received) == 1)
        slow.may_answer.set()
        await gateway.settled()
        assert len(slow.received) == 4


async def test_shutdown_waits_for_running_deliveries_and_starts_no_more() -> None:
    async with receiving() as receiver, running() as gateway:
        gateway.store.outlives_gateway = True  # type: ignore[misc]
        receiver.may_answer.clear()
        await gateway.finish_job(receiver.url)
        await until(lambda: receiver.received)
        draining = asyncio.create_task(gateway.webhooks.drain())
        await asyncio.sleep(0)
        await gateway.finish_job(receiver.url, job_id="later")
        assert not draining.done()
        receiver.may_answer.set()
        await draining
        assert [each["id"] for each in receiver.received] == ["job-1"]
        delivery, _ = await gateway.store.claim_delivery(("home", "one"))
        assert delivery
        assert delivery.job.id == "later"
        await gateway.store.end_delivery(delivery)


async def test_shutdown_delivers_all_due_webhooks_if_no_other_gateway_can() -> None:
    count = 3 * CONCURRENT_WEBHOOKS
    async with receiving() as receiver, running() as gateway:
        receiver.may_answer.clear()
        for number in range(count):
            await gateway.finish_job(receiver.url, job_id=f"job-{number}")
        await until(lambda: len(receiver.received) == CONCURRENT_WEBHOOKS)
        draining = asyncio.create_task(gateway.webhooks.drain())
        receiver.may_answer.set()
        await draining
        assert len(receiver.received) == count


async def test_an_interrupted_delivery_is_due_immediately_and_counts_as_no_attempt() -> None:
    async with receiving() as receiver:
        gateway = Gateway()
        async with gateway.webhooks:
            receiver.may_answer.clear()
            await gateway.finish_job(receiver.url)
            await until(lambda: receiver.received)
        await asyncio.sleep(0)
        delivery, _ = await gateway.store.claim_delivery(("home", "one"))
        assert delivery
        assert delivery.tries == 0
        await gateway.store.end_delivery(delivery)
        await gateway.forget()
