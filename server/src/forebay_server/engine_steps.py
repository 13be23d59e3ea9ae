"""vLLM's entry point vllm.stat_logger_plugins. vLLM calls it in the API server's process after each engine step.

vLLM loads this module right before it starts the engine's process, so the module sets the start method. With this
plugin vLLM collects the statistics of each step even if DISABLE_LOG_STATS is set. The steps show that the engine
works on a long prompt, even before the first token of the answer.
"""

from typing import Any

from vllm.v1.metrics.loggers import AggregateStatLoggerBase

from forebay_server import vllm_compat
from forebay_server.app import current

if current().fork_engine:
    vllm_compat.fork_engine()


class StepListener(AggregateStatLoggerBase):  # type: ignore[misc]
    """Reports the engine's steps and sleep to EngineWatch. See vLLM's StatLoggerManager for the methods."""

    def __init__(self, vllm_config: Any, engine_indexes: list[int]) -> None:
        self._process = current()

    def record(self, *_: Any, engine_idx: int = 0, **__: Any) -> None:
        if watch := self._process.watch:
            watch.stepped(engine_idx)

    def record_sleep_state(self, sleep: int = 0, level: int = 0) -> None:
        if watch := self._process.watch:
            watch.slept(bool(sleep))

    def log_engine_initialized(self) -> None:
        """Required by vLLM. Nothing to do."""
