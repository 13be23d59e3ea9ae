"""vLLM's entry point vllm.stat_logger_plugins: called in the API server's process after each step of an engine.

vLLM loads it right before it starts the engine's process, which is the moment to choose how. It makes vLLM gather the
statistics of each step even where DISABLE_LOG_STATS is set; that is what shows that a long prompt is being worked on
when no token comes of it yet.
"""

from typing import Any

from vllm.v1.metrics.loggers import AggregateStatLoggerBase

from forebay_server import vllm_compat
from forebay_server.app import current

if current().fork_engine:
    vllm_compat.fork_engine()


class StepListener(AggregateStatLoggerBase):  # type: ignore[misc]
    """Tells the watch of steps, and of sleep. See vLLM's StatLoggerManager for the methods."""

    def __init__(self, vllm_config: Any, engine_indexes: list[int]) -> None:
        self._process = current()

    def record(self, *_: Any, engine_idx: int = 0, **__: Any) -> None:
        if watch := self._process.watch:
            watch.stepped(engine_idx)

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
        if watch := self._process.watch:
            watch.slept(bool(sleep))

    def log_engine_initialized(self) -> None:
        """Nothing to say."""
