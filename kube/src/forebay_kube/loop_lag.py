"""Measures how late an event loop is. While one step of the loop takes long, everything else in the process waits."""

import asyncio
import time

from prometheus_client import Histogram

BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class LoopLag:
    """Two histograms: the lag, and the part of it that is CPU time of the loop's own thread.

    Args:
        prefix: the prefix of their names.
        interval: seconds between two samples.
    """

    def __init__(self, prefix: str, interval: float) -> None:
        self._interval = interval
        self._lag = Histogram(
            f"{prefix}_loop_lag_seconds",
            f"How late the event loop was, every {interval:g} s. All other steps wait while one runs.",
            buckets=BUCKETS,
        )
        self._busy = Histogram(
            f"{prefix}_loop_busy_seconds",
            f"How much of {prefix}_loop_lag_seconds was CPU time of its own; the rest is a busy node or a CPU limit.",
            buckets=BUCKETS,
        )

    async def watch(self) -> None:
        """Take samples until the task is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due, before = loop.time() + self._interval, time.thread_time()
            await asyncio.sleep(self._interval)
            late = max(0.0, loop.time() - due)
            self._lag.observe(late)
            self._busy.observe(min(late, time.thread_time() - before))
