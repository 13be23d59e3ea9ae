"""Rate limits: RunPod's numbers, in the memory of one gateway and in Valkey once for all; Valkey is a real server."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from forebay_gateway.jobs import scripts, valkey_rate_limits
from forebay_gateway.jobs.rate_limits import MemoryRateLimits, RateLimits
from forebay_gateway.jobs.scripts import connect
from forebay_gateway.jobs.store import Unavailable
from forebay_gateway.jobs.valkey_rate_limits import ValkeyRateLimits
from tests.integration.stored_jobs import KEY, becomes
from tests.integration.valkey_process import ValkeyServer

OTHER = ("home", "two")


@pytest.fixture(params=["memory", "valkey"])
async def rates(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[list[RateLimits]]:
    """Of two gateways; in memory of one, twice."""
    if request.param == "memory":
        yield [MemoryRateLimits()] * 2
        return
    clients = [connect(valkey.url) for _ in range(2)]
    async with ValkeyRateLimits(clients[0]) as one, ValkeyRateLimits(clients[1]) as two:
        yield [one, two]
    for client in clients:
        await client.aclose()


async def ask(rates: RateLimits, operation: str, pods: int = 0, key: tuple[str, str] = KEY) -> float:
    async with rates.admit(key, operation, pods) as later:
        return later


async def test_all_gateways_together_allow_so_many_in_a_window(rates: list[RateLimits]) -> None:
    one, two = rates
    assert [await ask(each, "purge-queue") for each in (one, two)] == [0, 0]
    for each in rates:
        assert 5 < await ask(each, "purge-queue") <= 10
    assert await ask(two, "purge-queue", pods=2) == 0, "they grow with the pods"
    assert [await ask(one, "purge-queue", key=OTHER), await ask(one, "health")] == [0, 0]
    answers = [await ask(rates[number % 2], "retry") for number in range(110)]
    assert [later > 1 for later in answers] == [False] * 100 + [True] * 10


async def test_all_gateways_together_answer_so_many_at_once(rates: list[RateLimits]) -> None:
    async with AsyncExitStack() as stack:
        for number in range(20):
            assert await stack.enter_async_context(rates[number % 2].admit(KEY, "cancel", 0)) == 0
        assert [await ask(each, "cancel") for each in rates] == [1, 1]
        assert await ask(rates[0], "cancel", pods=2) == 0
        assert await ask(rates[0], "cancel", key=OTHER) == 0

    async def fits() -> bool:
        return not await ask(rates[1], "cancel")

    await becomes(fits)


async def test_requests_of_a_gateway_that_died_count_for_their_lease_only(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_rate_limits, "REQUEST_LEASE", 0.5)
    monkeypatch.setattr(valkey_rate_limits, "RENEWAL_INTERVAL", 0.1)
    client = connect(valkey.url)
    name = f"forebay:answering:cancel:{'/'.join(KEY)}"

    async def scores() -> list[float]:
        return [float(await client.zscore(name, str(each)) or 0) for each in await client.zrange(name, 0, -1)]

    dead = ValkeyRateLimits(client)  # it renews nothing
    async with ValkeyRateLimits(client) as living, AsyncExitStack() as stack:
        for _ in range(19):
            await stack.enter_async_context(dead.admit(KEY, "cancel", 0))
        async with living.admit(KEY, "cancel", 0):
            assert await ask(living, "cancel") == 1

            async def only_the_living() -> bool:
                return not await ask(living, "cancel") and len(await scores()) <= 2

            await becomes(only_the_living)
            seen = [max(await scores())]

            async def renewed() -> bool:
                seen.append(max(await scores()))
                return seen[-1] > seen[0] + 500

            await becomes(renewed)
            assert all(before <= after for before, after in pairwise(seen))

        async def none_is_answered() -> bool:
            return not await client.exists(name)

        await becomes(none_is_answered)
    await client.aclose()


async def test_where_valkey_is_away_requests_wait_and_are_then_refused(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "SCRIPT_RETRY_TIMEOUT", 0.3)
    client = connect("redis://127.0.0.1:1")
    with pytest.raises(Unavailable):
        await ask(ValkeyRateLimits(client), "cancel")
    await client.aclose()
