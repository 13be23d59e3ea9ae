"""A step of the event loop that takes long is told of."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from forebay_gateway import loop_lag
from tests.waiting import until


async def test_a_long_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "SAMPLE_INTERVAL", 0.01)

    def told(what: str) -> float:
        return REGISTRY.get_sample_value(f"forebay_gateway_loop_{what}_seconds_sum") or 0.0

    late, busy = told("lag"), told("busy")
    watching = asyncio.create_task(loop_lag.watch_lag())
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251  this step is long and needs no CPU time
    await until(lambda: told("lag") - late > 0.25)
    assert told("busy") - busy < 0.1
    late = told("lag")
    began = time.thread_time()
    while time.thread_time() < began + 0.3:
        pass  # and this one does
    await until(lambda: told("lag") - late > 0.25)
    assert told("busy") - busy > 0.25
    watching.cancel()
