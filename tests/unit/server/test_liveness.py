"""When an engine counts as wedged."""

import asyncio

import pytest

from forebay_server.lifecycle import liveness
from forebay_server.lifecycle.liveness import EngineWatch, Patience, keep_watch
from tests.waiting import until


class Engine:
    """A clock, and what is unfinished."""

    def __init__(self, **requests: int) -> None:
        self.now = 1000.0
        self.requests = {0: 0}

    def clock(self) -> float:
        return self.now

    def watch(self) -> EngineWatch:
        return EngineWatch(Patience(stuck=120, probe=60), lambda: dict(self.requests), self.clock)

    def pass_time(self, watch: EngineWatch, seconds: int) -> str:
        """Check once a second in the pod's state. Returns the last result."""
        verdict = ""
        for _ in range(seconds):
            self.now += 1
            verdict = watch.stuck()
        return verdict


def test_requests_without_a_step_for_too_long_are_wedged() -> None:
    engine = Engine()
    watch = engine.watch()
    engine.pass_time(watch, 10_000)
    engine.requests[0] = 3
    assert engine.pass_time(watch, 120) == ""
    assert engine.pass_time(watch, 2) == "the engine has 3 requests and has finished no step for 122 s"
    watch.stepped(0)
    assert engine.pass_time(watch, 1) == "", "it continues"


def test_an_engine_with_a_long_queue_is_healthy_while_steps_finish() -> None:
    engine = Engine()
    watch = engine.watch()
    engine.requests[0] = 5000
    for _ in range(100):
        assert engine.pass_time(watch, 100) == ""
        watch.stepped(0)


def test_each_engine_of_a_group_is_checked_separately() -> None:
    engine = Engine()
    engine.requests = {0: 1, 1: 1}
    watch = engine.watch()
    for _ in range(130):
        watch.stepped(0)
        verdict = engine.pass_time(watch, 1)
    assert verdict.startswith("engine 1 has 1 request ")


def test_time_while_the_machine_was_suspended_does_not_count() -> None:
    engine = Engine()
    engine.requests[0] = 1
    watch = engine.watch()
    engine.pass_time(watch, 5)
    engine.now += 3600
    assert watch.stuck() == ""
    assert engine.pass_time(watch, 100) == ""
    assert engine.pass_time(watch, 30) != ""


def test_a_sleeping_engine_is_not_probed() -> None:
    engine = Engine()
    engine.requests[0] = 1
    watch = engine.watch()
    watch.slept(True)
    assert engine.pass_time(watch, 500) == ""
    assert not watch.needs_probe()
    watch.slept(False)
    assert engine.pass_time(watch, 122) != ""


def test_only_an_idle_engine_is_probed() -> None:
    engine = Engine()
    watch = engine.watch()
    assert not watch.needs_probe()
    engine.pass_time(watch, 60)
    assert watch.needs_probe()
    engine.requests[0] = 1
    assert not watch.needs_probe()
    engine.requests[0] = 0
    watch.stepped(0)
    assert not watch.needs_probe()


def test_two_failed_probes_in_a_row_mean_unhealthy() -> None:
    watch = Engine().watch()
    watch.probed("500")
    assert watch.stuck() == ""
    watch.probed("")
    watch.probed("500")
    assert watch.stuck() == ""
    watch.probed("500")
    assert watch.stuck() == "the model does not answer: 500"
    watch.probed("")
    assert watch.stuck() == ""


async def test_only_one_probe_runs_and_its_result_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "TICK_SECONDS", 0.001)
    engine = Engine()
    watch = engine.watch()
    engine.now += 61
    sent = 0
    release = asyncio.Event()

    async def probe() -> None:
        nonlocal sent
        sent += 1
        await release.wait()
        raise RuntimeError("answered with 500")

    ticks = 0

    def count_tick() -> bool:
        nonlocal ticks
        ticks += 1
        return False

    keeper = asyncio.create_task(keep_watch(watch, probe, ended=count_tick))
    await until(lambda: sent and ticks > 10)
    assert sent == 1
    release.set()
    await until(lambda: not watch.needs_probe())
    engine.now += 61
    await until(lambda: watch.stuck() == "the model does not answer: answered with 500")
    keeper.cancel()
