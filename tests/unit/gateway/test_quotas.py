"""Quotas that tenants share."""

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.fairness.quotas import Quota, Reservation, TenantLocks, memory_of


def acquire_all(shares: Quota, tenant: str) -> int:
    """How much one can get, one by one."""
    count = 0
    while shares.try_acquire(tenant):
        count += 1
    return count


def test_each_tenant_gets_at_most_half_of_the_remainder() -> None:
    shares = Quota(100)
    assert [acquire_all(shares, tenant) for tenant in ("a", "b", "c", "d")] == [50, 25, 12, 6]
    shares.release("a", 50)
    assert acquire_all(shares, "e") == 28, "half of the remaining 57"


def test_one_tenant_gets_everything_without_a_share() -> None:
    assert acquire_all(Quota(100, share=1.0), "a") == 100


def test_a_reservation_is_complete_or_fails() -> None:
    shares = Quota(100)
    assert not shares.try_acquire("a", 51)
    assert shares.used == 0
    assert shares.try_acquire("a", 50)
    assert shares.try_acquire("a", -10), "it may always become less"
    assert shares.used == 40


def test_a_reservation_is_released_when_the_work_ends() -> None:
    shares = Quota(100)
    with Reservation(shares, "a") as taken:
        assert taken.resize(40)
        assert not taken.resize(51)
        assert shares.used == 40
        assert taken.resize(10)
        assert shares.used == 10
    assert shares.used == 0


def test_a_reservation_can_move_to_another_tenant() -> None:
    shares = Quota(100)
    taken, other = Reservation(shares, "a"), Reservation(shares, "b")
    assert taken.resize(20)
    assert other.resize(40)
    assert not taken.move("b"), "it may have half, which is 50"
    assert other.resize(10)
    assert taken.move("b")
    assert acquire_all(shares, "a") == 35
    assert shares.used == 65


async def test_each_tenant_has_one_turn_at_a_time() -> None:
    locks = TenantLocks()
    async with locks.of("a"):
        assert locks.of("a").locked()
        assert not locks.of("b").locked()
    assert not locks.of("a").locked()


@pytest.mark.parametrize("text", ["", "plain", "\xe9t\xe9", "\u65e5\u672c", "\N{ELEPHANT}", "x" * 100 + "\N{ELEPHANT}"])
def test_a_text_counts_as_its_memory_size(text: str) -> None:
    tracemalloc.start()
    made = [text * 1000 for _ in range(10)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.8 * taken - 200 <= sum(map(memory_of, made)) <= 1.2 * taken + 1000


async def test_work_waits_for_room() -> None:
    shares = Quota(100)
    with Reservation(shares, "a") as first, Reservation(shares, "a") as second:
        assert first.resize(50)
        assert not await second.grow(10, 0.01)
        waiting = asyncio.create_task(second.grow(10, 60))
        await asyncio.sleep(0)
        first.resize(30)
        assert await waiting
        assert not shares.freed


def test_each_tenant_can_reserve_a_minimum() -> None:
    shares = Quota(100, floor=5)
    for tenant in "abcdefgh":
        acquire_all(shares, tenant)
    assert acquire_all(shares, "late") == 5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.booleans())))
def test_the_sum_never_exceeds_the_quota(steps: list[tuple[str, int, bool]]) -> None:
    shares, taken = Quota(100), dict.fromkeys("abc", 0)
    for tenant, size, gives in steps:
        if gives and taken[tenant] >= size:
            shares.release(tenant, size)
            taken[tenant] -= size
        elif not gives and shares.try_acquire(tenant, size):
            taken[tenant] += size
        assert shares.used == sum(taken.values()) < 100
    for tenant, size in taken.items():
        shares.release(tenant, size)
    assert (shares.used, shares._by_tenant) == (0, {})
