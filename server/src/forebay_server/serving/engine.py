"""Operations on the running engine: sleep, adapters, the profiler. engine_control checks who may call them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forebay_protocol.errors import ApiError
from forebay_server import vllm_compat
from forebay_server.lifecycle.liveness import EngineWatch
from forebay_server.lifecycle.state import ServerState

logger = logging.getLogger(__name__)

ControlAnswer = dict[str, object]

MODES = ("wait", "abort", "keep")
"""How sleep treats running requests: they finish before the sleep, are aborted, or continue after the sleep."""

IDLE_POLL_INTERVAL = 0.1
"""Seconds between two checks for new requests."""


class EngineRefused(Exception):
    """The operation was not done. The exception has the error for the answer."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Abilities:
    """The operations that the engine's configuration allows."""

    sleep_mode: bool = False
    """Whether sleep frees the GPU's memory (ENABLE_SLEEP_MODE)."""
    cpu: bool = False
    """Whether there is no GPU. Sleep then stops the engine, which keeps its memory."""
    adapters: bool = False
    profiler: bool = False

    @classmethod
    def of(cls, vllm_config: Any) -> "Abilities":
        """Read the abilities from vLLM's configuration."""
        return cls(
            sleep_mode=vllm_config.model_config.enable_sleep_mode,
            cpu=vllm_compat.is_cpu(),
            adapters=vllm_config.lora_config is not None,
            profiler=vllm_config.profiler_config.profiler is not None,
        )


class Engine:
    """vLLM's engine, for use on its event loop. One operation runs at a time. All of them may raise EngineRefused."""

    def __init__(
        self,
        client: Any,
        models: Callable[[], Any],
        abilities: Abilities,
        *,
        state: ServerState,
        watch: EngineWatch,
        probe: Callable[[], Awaitable[None]],
    ) -> None:
        """Wrap vLLM's engine.

        Args:
            client: vLLM's EngineClient.
            models: returns vLLM's OpenAIServingModels.
            abilities: the operations that the engine's configuration allows.
            state: the server's state.
            watch: the watch of the engine.
            probe: sends the model a request, and raises the error if it fails.
        """
        self._client = client
        self._models = models
        self._abilities = abilities
        self._state = state
        self._watch = watch
        self._probe = probe
        self._busy = asyncio.Lock()
        self._level = 0

    async def is_sleeping(self) -> ControlAnswer:
        """The answer to vLLM's route /is_sleeping."""
        return {"is_sleeping": bool(await self._client.is_sleeping())}

    async def sleep(self, level: int, mode: str, after: float = 0.0) -> ControlAnswer:
        """Put the engine to sleep. From then on the server rejects requests.

        Args:
            level: 0 stops the engine, 1 moves the weights to the host's memory and drops the KV cache, 2 drops the
                weights and the KV cache.
            mode: how running requests are treated, one of MODES.
            after: seconds before the sleep in which the server is not ready, but answers. A request in this time keeps
                the engine awake.
        """
        if level and not (self._abilities.sleep_mode or self._abilities.cpu):
            raise _not_started_with("ENABLE_SLEEP_MODE=true", "give memory back while it sleeps; level=0 only stops it")
        async with self._busy:
            if after and not await self._stays_idle(after):
                return {"status": "awake", "level": self._level}
            before, self._state.asleep = self._state.asleep, True
            try:
                await self._client.sleep(level, mode)
            except Exception as error:
                self._state.asleep = before
                raise _failed(error) from error
            self._watch.slept(True)
            self._level = level
        logger.info("The engine sleeps, level %d", level)
        return {"status": "sleeping", "level": level}

    async def _stays_idle(self, seconds: float) -> bool:
        """Return True after `seconds` without a request for the engine, False as soon as one arrives or still runs.

        Until then the server is not ready, so requests go elsewhere.
        """
        requests, end = self._state.in_flight, time.monotonic() + seconds
        begun, self._state.leaving = requests.begun, True
        try:
            while await asyncio.sleep(IDLE_POLL_INTERVAL, True):
                if requests.begun != begun or requests.working:
                    return False
                if time.monotonic() > end:
                    return True
        finally:
            self._state.leaving = False
        return False

    async def wake_up(self, tags: Sequence[str]) -> ControlAnswer:
        """Wake the parts that `tags` name (weights, kv_cache), or all.

        Weights that level 2 dropped are loaded first. The server accepts requests again once the whole engine is awake
        and the model has answered a request.
        """
        async with self._busy:
            try:
                awake = await self._wake(tags)
                if awake:
                    self._watch.slept(False)
                    await self._probe()
                    self._level, self._state.asleep = 0, False
            except Exception as error:
                raise _failed(error) from error
        logger.info("The engine is awake" if awake else "The engine is partly awake: %s", *([] if awake else [tags]))
        return {"status": "awake" if awake else "sleeping", "tags": list(tags) or None}

    async def _wake(self, tags: Sequence[str]) -> bool:
        if self._level == 2 and (not tags or "weights" in tags):
            await self._client.wake_up(["weights"])
            await self._client.collective_rpc("reload_weights")
            tags = [tag for tag in tags or ("kv_cache",) if tag != "weights"]
            if not tags:
                return not await self._client.is_sleeping()
        return await vllm_compat.wake_up(self._client, list(tags) or None)

    async def load_adapter(self, fields: Mapping[str, Any]) -> ControlAnswer:
        """Load an adapter by vLLM's fields lora_name, lora_path (a folder or a repository) and load_inplace.

        From then on it is served as a model of its own.
        """
        return await self._change_adapters(vllm_compat.load_adapter, fields)

    async def unload_adapter(self, fields: Mapping[str, Any]) -> ControlAnswer:
        """Unload the adapter lora_name."""
        return await self._change_adapters(vllm_compat.unload_adapter, fields)

    async def _change_adapters(
        self, change: Callable[[Any, Mapping[str, Any]], Awaitable[tuple[int, str]]], fields: Mapping[str, Any]
    ) -> ControlAnswer:
        if not self._abilities.adapters:
            raise _not_started_with("ENABLE_LORA=true", "take adapters")
        async with self._busy:
            try:
                status, message = await change(self._models(), fields)
            except ValueError as error:  # of pydantic: a field is missing or wrong
                raise EngineRefused(ApiError(400, str(error))) from error
        if status >= 400:  # vLLM answers 500 for an adapter that its engine could not load
            raise EngineRefused(ApiError(400 if status == 500 else status, message))
        return {"status": message}

    async def profile(self, start: bool) -> ControlAnswer:
        """Start or stop the profiler that PROFILER_CONFIG describes."""
        if not self._abilities.profiler:
            example = 'PROFILER_CONFIG={"profiler": "torch", "torch_profiler_dir": "/cache/profile"}'
            raise _not_started_with(example, "be profiled")
        async with self._busy:
            try:
                await (self._client.start_profile() if start else self._client.stop_profile())
            except Exception as error:
                raise _failed(error) from error
        return {"status": "profiling" if start else "stopped"}


def _not_started_with(setting: str, ability: str) -> EngineRefused:
    return EngineRefused(
        ApiError(400, f"The engine was not started with {setting}, so it cannot {ability}.", "not_enabled")
    )


def _failed(error: Exception) -> EngineRefused:
    logger.error("An operation of the engine failed", exc_info=error)
    return EngineRefused(ApiError(500, f"{type(error).__name__}: {error}", "operation_failed"))
