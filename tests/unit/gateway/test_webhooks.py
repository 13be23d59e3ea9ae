"""Webhooks: where they may lead, and that they are tried again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.pacing import FairScheduler
from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.jobs import webhooks as module
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.store import JobStore
from forebay_gateway.jobs.submission import read_submission
from forebay_gateway.jobs.webhooks import WEBHOOK_ATTEMPTS, Webhooks, is_allowed, read_networks

LOOPBACK = "127.0.0.0/8"


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("93.184.216.34", "", True),
        ("2606:2800:220:1::1", "", True),
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("::ffff:127.0.0.1", "", False),
        ("169.254.169.254", "", False),
        ("fe80::1%eth0", "", False),
        ("64:ff9b::a00:1", "", False),
        ("::7f00:1", "", False),
        ("2002:7f00:1::", "", False),
        ("fec0::1", "", False),
        ("10.96.0.1", "", False),
        ("192.168.1.1", "", False),
        ("100.64.0.1", "", False),
        ("0.0.0.0", "", False),
        ("224.0.0.1", "", False),
        ("168.63.129.16", "", False),
        ("5f00::1", "", False),
        ("3fff::1", "", False),
        ("::ffff:0:7f00:1", "", False),
        ("64:ff9b:1::a00:1", "", False),
        ("2001:0:7f00:1::", "", False),
        ("64:ff9b::5db8:d822", "", True),
        ("10.1.2.3", "10.1.0.0/16, fd00::/8", True),
        ("10.2.2.3", "10.1.0.0/16, fd00::/8", False),
        ("fd00::5", "10.1.0.0/16, fd00::/8", True),
    ],
)
def test_where_webhooks_may_lead(address: str, networks: str, allowed: bool) -> None:
    assert is_allowed(address, read_networks(networks)) == allowed


def webhooks_to(networks: str, store: JobStore | None = None, answers: int = 1 << 30) -> Webhooks:
    return Webhooks(store or MemoryJobStore(1), Quota(answers), FairScheduler(), read_networks(networks), pause=0.01)


@asynccontextmanager
async def listening(*statuses: int) -> AsyncIterator[tuple[int, asyncio.Queue[object]]]:
    """A server that answers so, one after the other: its port, and what it is sent."""
    seen: asyncio.Queue[object] = asyncio.Queue()
    answers = iter(statuses)

    async def take(request: web.Request) -> web.Response:
        seen.put_nowait(await request.json())
        return web.Response(status=next(answers), headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_post("/told", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1], seen
    finally:
        await runner.cleanup()


def finished_job(url: str, namespace: str = "home") -> Job:
    content = f'{{"input": 1, "webhook": "{url}"}}'.encode()
    job = Job("job-1", (namespace, "one"), read_submission(content, sync=False), "key", created=0.0)
    job.state, job.output = State.COMPLETED, ['"out"']
    return job


async def finish_one(webhooks: Webhooks, url: str) -> None:
    webhooks.deliver(finished_job(url))
    await asyncio.gather(*webhooks._tasks)


async def test_a_webhook_is_told_what_status_says() -> None:
    async with listening(200) as (port, seen), webhooks_to(LOOPBACK) as webhooks:
        await finish_one(webhooks, f"http://127.0.0.1:{port}/told")
        told = seen.get_nowait()
        assert isinstance(told, dict)
        assert (told["id"], told["status"], told["output"]) == ("job-1", "COMPLETED", ["out"])


async def test_a_large_output_is_told_too() -> None:
    store, key = MemoryJobStore(1 << 20), ("home", "one")
    async with listening(500, 200) as (port, seen), webhooks_to(LOOPBACK, store) as webhooks:
        content = f'{{"input": 1, "webhook": "http://127.0.0.1:{port}/told"}}'.encode()
        await store.submit(key, "job-1", read_submission(content, sync=False), "key")
        job, _ = await store.claim(key, [Address("10.0.0.1", 8000)], 1)
        assert job
        store.finished.add(webhooks.deliver)
        await store.finish(job, State.COMPLETED, items=['"' + "x" * 100_000 + '"'])
        await asyncio.gather(*webhooks._tasks)
        assert seen.get_nowait() == seen.get_nowait()


async def test_one_namespace_leaves_room_for_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WEBHOOK_OVERHEAD", 1 << 20)
    async with listening(200, 200) as (port, seen), webhooks_to(LOOPBACK, answers=4 << 20) as webhooks:
        url = f"http://127.0.0.1:{port}/told"
        for namespace in ("home", "home", "other"):
            webhooks.deliver(finished_job(url, namespace))
        await asyncio.gather(*webhooks._tasks)
        assert seen.qsize() == 2


async def test_anything_but_200_is_tried_again_and_redirects_are_not_followed() -> None:
    async with (
        listening(500, 302, 204, 200) as (port, seen),
        webhooks_to(LOOPBACK) as webhooks,
    ):
        await finish_one(webhooks, f"http://127.0.0.1:{port}/told")
        assert seen.qsize() == WEBHOOK_ATTEMPTS


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0", "１２７.０.０.１", "①②⑦.0.0.1", "127。0。0。1"],
)
async def test_nothing_inside_is_reached_by_whatever_name(host: str) -> None:
    async with listening(200) as (port, seen), webhooks_to("") as webhooks:
        await finish_one(webhooks, f"http://{host}:{port}/told")
        assert seen.empty()
