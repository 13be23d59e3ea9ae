"""A step of the event loop that takes long is told of."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from forebay_gateway import lag
from tests.waiting import until


async def test_a_long_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "INTERVAL", 0.01)

    def late() -> float:
        return REGISTRY.get_sample_value("forebay_gateway_loop_lag_seconds_sum") or 0.0

    before = late()
    watching = asyncio.create_task(lag.watch_lag())
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251  this is the long step
    await until(lambda: late() - before > 0.25)
    watching.cancel()
