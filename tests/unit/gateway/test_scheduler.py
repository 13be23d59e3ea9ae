"""Tenants with much traffic take turns, and long steps of one tenant have pauses."""

import asyncio
import time
from functools import partial
from typing import Any, cast

from forebay_gateway.fairness.scheduler import FairScheduler, Reader


async def test_each_tenant_has_one_turn_in_a_round() -> None:
    scheduler, had = FairScheduler(), list[str]()
    for name in ("a1", "a2", "a3", "b1"):
        scheduler.wait(name[0], partial(had.append, name))
    assert not had
    for after in (["a1", "b1"], ["a1", "b1", "a2"], ["a1", "b1", "a2", "a3"]):
        await asyncio.sleep(0)
        assert had == after


async def test_a_reader_that_stops_waiting_takes_no_turn_from_others() -> None:
    scheduler = FairScheduler()
    leaving, staying = (asyncio.create_task(scheduler.wait_for_turn("a")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    async with asyncio.timeout(5):
        await staying


class RecordingTransport:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def test_reading_paused_for_two_reasons_resumes_when_both_are_over() -> None:
    transport = RecordingTransport()
    reader = Reader(cast("Any", transport))
    reader.pause("turn")
    reader.pause("slow client")
    reader.release("turn")
    reader.release("turn")
    assert transport.calls == ["pause", "pause"]
    reader.release("slow client")
    assert transport.calls == ["pause", "pause", "resume"]


async def test_a_connection_that_has_just_closed_takes_no_turn_from_others() -> None:
    class Closed(RecordingTransport):
        def resume_reading(self) -> None:
            raise RuntimeError("the handler is closed")

    scheduler, other = FairScheduler(), RecordingTransport()
    for tenant, transport in (("a", Closed()), ("b", other)):
        reader = Reader(cast("Any", transport))
        reader.pause("turn")
        scheduler.wait(tenant, partial(reader.release, "turn"))
    await asyncio.sleep(0)
    assert other.calls == ["pause", "resume"]


async def test_after_a_long_step_only_the_same_tenant_waits() -> None:
    scheduler, clock, cpu = FairScheduler(cooldown_factor=20), asyncio.get_running_loop().time, time.thread_time
    began = cpu()
    async with scheduler.exclusive_step("a"):
        while cpu() - began < 0.02:
            sum(range(1000))
    for tenant, waits in (("b", False), ("a", True), ("a", False)):
        moment = clock()
        async with scheduler.exclusive_step(tenant):
            assert (clock() - moment > 0.05) == waits
