"""Rate limits: RunPod's numbers, in the memory of one gateway and in Valkey once for all; Valkey is a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from redis import asyncio as valkey_client

from forebay_gateway.jobs import scripts, valkey_rate_limits
from forebay_gateway.jobs.rate_limits import MemoryRateLimits, RateLimits
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_gateway.jobs.store import Unavailable
from forebay_gateway.jobs.valkey_rate_limits import ValkeyRateLimits
from tests.integration.stored_jobs import KEY, becomes
from tests.integration.valkey_process import ValkeyServer

OTHER = ("home", "two")


@pytest.fixture(params=["memory", "valkey"])
async def rates(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[list[RateLimits]]:
    """The limits of two gateways; in memory, one gateway twice."""
    if request.param == "memory":
        yield [MemoryRateLimits()] * 2
        return
    clients = [connect_valkey(valkey.url) for _ in range(2)]
    async with ValkeyRateLimits(clients[0]) as one, ValkeyRateLimits(clients[1]) as two:
        yield [one, two]
    for client in clients:
        await client.aclose()


async def ask(rates: RateLimits, operation: str, pods: int = 0, key: tuple[str, str] = KEY) -> float:
    async with rates.admit(key, operation, pods) as later:
        return later


async def test_all_gateways_share_one_limit_per_window(rates: list[RateLimits]) -> None:
    one, two = rates
    assert [await ask(each, "purge-queue") for each in (one, two)] == [0, 0]
    for each in rates:
        assert 5 < await ask(each, "purge-queue") <= 10
    assert await ask(two, "purge-queue", pods=2) == 0, "they grow with the pods"
    assert [await ask(one, "purge-queue", key=OTHER), await ask(one, "health")] == [0, 0]
    answers = [await ask(rates[number % 2], "retry") for number in range(110)]
    assert [later > 1 for later in answers] == [False] * 100 + [True] * 10


async def test_all_gateways_share_one_limit_of_concurrent_requests(rates: list[RateLimits]) -> None:
    async with AsyncExitStack() as stack:
        for number in range(20):
            assert await stack.enter_async_context(rates[number % 2].admit(KEY, "cancel", 0)) == 0
        assert [await ask(each, "cancel") for each in rates] == [1, 1]
        assert await ask(rates[0], "cancel", pods=2) == 0
        assert await ask(rates[0], "cancel", key=OTHER) == 0

    async def fits() -> bool:
        return not await ask(rates[1], "cancel")

    await becomes(fits)


async def test_slots_of_a_dead_gateway_are_free_after_their_lease(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_rate_limits, "SLOTS_LEASE", 0.6)
    monkeypatch.setattr(valkey_rate_limits, "SLOTS_RENEWAL_INTERVAL", 0.1)
    client = connect_valkey(valkey.url)
    name = f"forebay:answering:cancel:{'/'.join(KEY)}"
    dead = ValkeyRateLimits(client)  # it renews nothing
    async with ValkeyRateLimits(client) as living, AsyncExitStack() as stack:
        for _ in range(19):
            await stack.enter_async_context(dead.admit(KEY, "cancel", 0))
        async with living.admit(KEY, "cancel", 0) as later:
            assert later == 0
            assert await ask(living, "cancel") == 1

            async def free() -> bool:
                return not await ask(living, "cancel")

            await becomes(free)
            leases = {await lease_of(client, name)}

            async def renewed() -> bool:
                leases.add(await lease_of(client, name))
                return max(leases) - min(leases) > 1000

            await becomes(renewed)
            await client.delete(name)  # as Valkey may lose it

            async def known_again() -> bool:
                return bool(await client.exists(name))

            await becomes(known_again)
        assert max(leases) - min(leases) > 600, "longer than the lease"

        async def is_empty() -> bool:
            return not await client.exists(name)

        await becomes(is_empty)
    await client.aclose()


async def lease_of(client: valkey_client.Redis, name: str) -> int:
    """The end of the lease of the only gateway with slots, in ms."""
    (held,) = await client.hvals(name)
    return int(str(held).split()[1])


async def test_most_requests_under_a_large_limit_need_no_call_to_valkey(valkey: ValkeyServer) -> None:
    client = connect_valkey(valkey.url)
    async with ValkeyRateLimits(client) as one, ValkeyRateLimits(client) as two:
        answers = [await ask((one, two)[number % 2], "run") for number in range(200)]
        assert answers == [0] * 200
        calls = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
        answers = [await ask((one, two)[number % 2], "run") for number in range(900)]
        assert (await client.info("commandstats"))["cmdstat_evalsha"]["calls"] - calls < 200
        assert [later > 1 for later in answers] == [False] * 800 + [True] * 100
    await client.aclose()


async def test_a_client_that_disconnects_uses_no_slot(rates: list[RateLimits]) -> None:
    for _ in range(30):
        leaving = asyncio.create_task(ask(rates[0], "cancel"))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

    async def fits() -> bool:
        async with AsyncExitStack() as stack:
            return not sum([await stack.enter_async_context(rates[1].admit(KEY, "cancel", 0)) for _ in range(20)])

    await becomes(fits)


async def test_requests_wait_for_valkey_together_and_are_rejected_on_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scripts, "SCRIPT_RETRY_TIMEOUT", 0.3)
    client = connect_valkey("redis://127.0.0.1:1")
    rates = ValkeyRateLimits(client)
    async with asyncio.timeout(3):
        answers = await asyncio.gather(*(ask(rates, "cancel") for _ in range(50)), return_exceptions=True)
    assert [type(each) for each in answers] == [Unavailable] * 50
    await client.aclose()
