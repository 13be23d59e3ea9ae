"""A long step of the event loop is measured, and the part of it that is CPU time."""

import asyncio
import time

from prometheus_client import REGISTRY

from forebay_kube.loop_lag import LoopLag
from tests.waiting import until


async def test_a_long_step_is_measured() -> None:
    lag = LoopLag("test", interval=0.01)

    def read_sum(what: str) -> float:
        return REGISTRY.get_sample_value(f"test_loop_{what}_seconds_sum") or 0.0

    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251  this step is long and needs no CPU time
    await until(lambda: read_sum("lag") > 0.25)
    assert read_sum("busy") < 0.1
    late, busy = read_sum("lag"), read_sum("busy")
    began = time.thread_time()
    while time.thread_time() < began + 0.3:
        pass  # and this one does
    await until(lambda: read_sum("lag") - late > 0.25)
    assert read_sum("busy") - busy > 0.25
    watching.cancel()
