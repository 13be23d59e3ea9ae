"""Composes the parts of this process. vLLM creates the middleware and the plugin by their import paths.

The command line calls `create_process` once before vLLM runs.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from forebay_server import vllm_compat
from forebay_server.asgi import App, Scope
from forebay_server.config.settings import JobSettings, Settings
from forebay_server.jobs.runsync import RunSync
from forebay_server.lifecycle import diagnosis
from forebay_server.lifecycle.drain import Drain
from forebay_server.lifecycle.liveness import EngineWatch, Patience, keep_watch
from forebay_server.lifecycle.startup import Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.lifecycle.warmup import WarmUpError, for_tasks, send_warm_up
from forebay_server.serving.auth_middleware import AuthMiddleware
from forebay_server.serving.engine import Abilities, Engine
from forebay_server.serving.engine_control import Control
from forebay_server.serving.key_ring import KeyRing, has_keys
from forebay_server.serving.limits import BodyLimits

FOREBAY_MIDDLEWARE = f"{__name__}.ForebayMiddleware"
"""The value of vLLM's --middleware."""

PLUGIN = "forebay"
"""The name of the entry point in vllm.endpoint_plugins, for VLLM_PLUGINS."""


@dataclass
class ServerProcess:
    """The objects that the middleware and the plugin share."""

    state: ServerState
    keys: KeyRing | None
    drain: Drain
    limits: BodyLimits
    jobs: JobSettings
    tasks: Collection[str] | None = None
    """The model's tasks, as vLLM names them. The plugin sets them."""
    strict_max_tokens: bool = False
    """Whether a max_tokens above the context is rejected."""
    patience: Patience = field(default_factory=Patience)
    watch: EngineWatch | None = None
    """The watch of the engine; None before the engine exists."""
    control: Control = field(default_factory=lambda: Control(None))
    model: str = ""
    """The name that the model is served by."""
    fork_engine: bool = False
    """Whether the engine's process must be forked: see launch.may_fork."""
    chat_template: bool = False
    """Whether the user gave a chat template. The warm-up then checks the template."""
    _requests: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    """The warm-up requests. The first one is the probe of the idle engine."""
    _keeper: asyncio.Task[None] | None = None

    def observe(self, engine_client: Any, app_state: Any, arguments: Any) -> None:
        """Attach the engine. The plugin calls it on vLLM's event loop, once the engine runs."""
        self.watch = EngineWatch(self.patience, vllm_compat.requests_by_engine(engine_client))
        self.state.attach_engine(
            dead=lambda: bool(engine_client.errored),
            stuck=self.watch.stuck,
            seconds_since_work=self.watch.seconds_since_work,
        )
        self.chat_template = arguments.chat_template is not None
        self.model = (arguments.served_model_name or [arguments.model])[0]
        engine = Engine(
            engine_client,
            lambda: app_state.openai_serving_models,
            Abilities.of(app_state.vllm_config),
            state=self.state,
            watch=self.watch,
            probe=self._send_probe,
        )
        self.control.attach(
            lambda: engine if self.state.step is Step.READY and not self.state.draining else None,
            asyncio.get_running_loop(),
        )

    async def warm_up(self, app: App, scope: Scope) -> None:
        """Send the warm-up requests. Raises WarmUpError, which `state.failure` then explains."""
        try:
            if self.tasks is None:
                raise WarmUpError("vLLM did not load the plugin of forebay-server.")
            self._requests = [
                partial(send_warm_up, app, scope, request)
                for request in for_tasks(self.tasks, self.model, self.chat_template)
            ]
            for request in self._requests:
                await request()
        except WarmUpError as error:
            self.state.failure = diagnosis.explain_warm_up(error)
            raise

    async def _send_probe(self) -> None:
        for request in self._requests[:1]:
            await request()

    def serving(self) -> None:
        """Install the drain and start the watch of the engine, once the server is ready."""
        self.drain.install()
        if self.watch is not None and self._requests:
            watching = keep_watch(self.watch, self._requests[0], lambda: self.state.draining)
            self._keeper = asyncio.get_running_loop().create_task(watching)


_current: ServerProcess | None = None


def create_process(settings: Settings, state: ServerState) -> ServerProcess:
    """Create the objects of this process. Raises StartError if the keys cannot be used."""
    global _current  # noqa: PLW0603 - vLLM's plugins have no other way to objects created before vLLM
    keys = KeyRing(settings.keys_dir) if settings.auth == "APIKey" else None
    control = Control(KeyRing(settings.control_dir) if has_keys(settings.control_dir) else None)
    drain = Drain(state, settings.drain_seconds)
    _current = ServerProcess(
        state,
        keys,
        drain,
        settings.limits,
        settings.jobs,
        strict_max_tokens=settings.strict_max_tokens,
        patience=settings.patience,
        control=control,
    )
    return _current


def current() -> ServerProcess:
    """The objects of `create_process`. Raises RuntimeError without them, so that no server runs without key check."""
    if _current is None:
        raise RuntimeError("This vLLM was not started by forebay-server.")
    return _current


class ForebayMiddleware(AuthMiddleware):
    """AuthMiddleware in a form that vLLM can create with `app` alone. Requests then pass through the handler of
    RunPod's jobs."""

    def __init__(self, app: App) -> None:
        process = current()
        super().__init__(RunSync(app, process.jobs), process.state, process.keys, process, process.limits)
