"""The work queue: once in line, one worker at a time, nothing lost, patience with what fails."""

import asyncio

import pytest

from forebay_operator.work_queue import FIRST_REQUEUE_DELAY, MAX_REQUEUE_DELAY, WorkQueue


async def test_a_key_waits_only_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "a", "b", "a"):
        queue.add(key)
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert queue.done("a") is None
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_key_changed_during_work_is_queued_again_afterwards() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    second = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not second.done()
    queue.done("a")
    assert await second == "a"


async def test_a_failed_key_is_requeued_with_backoff() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    assert queue.done("a", failed=True) == FIRST_REQUEUE_DELAY
    async with asyncio.timeout(5):
        assert await queue.get() == "a"
    delays = [queue.done("a", failed=True) for _ in range(20)]
    assert delays[:2] == [FIRST_REQUEUE_DELAY * 2, FIRST_REQUEUE_DELAY * 4]
    assert delays[-1] == MAX_REQUEUE_DELAY


async def test_success_resets_the_backoff() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.done("a", failed=True)
    queue.done("a", failed=True)
    queue.done("a")
    assert queue.done("a", failed=True) == FIRST_REQUEUE_DELAY


async def test_events_during_the_backoff_do_not_multiply_the_retries() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(5):
        queue.add("a")
        assert await queue.get() == "a"
        queue.done("a", failed=True)
    timers = [handle for handle in queue._retry_timers.values() if not handle.cancelled()]
    assert len(timers) == 1
    queue.done("a")
    assert not queue._retry_timers


async def test_a_queue_measures_the_time_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: WorkQueue[str] = WorkQueue()
    now = 100.0
    monkeypatch.setattr("forebay_operator.work_queue.time.monotonic", lambda: now)
    assert queue.stalled_for() == 0
    queue.add("a")
    now = 105.0
    assert queue.stalled_for() == 5
    await queue.get()
    assert queue.stalled_for() == 0
    now = 107.0
    assert queue.stalled_for() == 2
    queue.done("a")
    now = 200.0
    assert queue.stalled_for() == 0


async def test_failed_keys_are_retried_immediately_when_their_cause_is_over() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(10):
        queue.add("a")
        await queue.get()
        queue.done("a", failed=True)
    queue.retry_now()
    assert await queue.get() == "a"
    assert queue.retries == 0
    assert queue.done("a", failed=True) == FIRST_REQUEUE_DELAY, "the backoff starts again"


@pytest.mark.parametrize("delays", [(0.01, 60.0), (60.0, 0.01)])
async def test_the_shortest_of_several_delays_is_used(delays: tuple[float, float]) -> None:
    queue: WorkQueue[str] = WorkQueue()
    for delay in delays:
        queue.add_later("a", delay)
    assert await asyncio.wait_for(queue.get(), 10) == "a"
    queue.done("a")
    queue.add("b")
    assert await queue.get() == "b", "the key is queued once"


async def test_tenants_take_turns() -> None:
    queue: WorkQueue[tuple[str, int]] = WorkQueue(tenant_of=lambda key: key[0])
    for key in (("many", 1), ("many", 2), ("many", 3), ("few", 1), ("one", 1), ("few", 2)):
        queue.add(key)
    got = [await queue.get() for _ in range(6)]
    assert got == [("many", 1), ("few", 1), ("one", 1), ("many", 2), ("few", 2), ("many", 3)]
