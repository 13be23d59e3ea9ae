"""The parts of this process that vLLM meets by import path: it makes the middleware and the plugin itself.

`begin` is called once by the command line before vLLM runs.
"""

from collections.abc import Collection
from dataclasses import dataclass

from forebay_server.asgi import App, Scope
from forebay_server.drain import Drain
from forebay_server.failure import EXIT_FAILURE, Failure
from forebay_server.jobs.runsync import RunSync
from forebay_server.keys import KeyRing
from forebay_server.limits import Limits
from forebay_server.middleware import Gate
from forebay_server.settings import JobSettings, Settings
from forebay_server.state import ServerState
from forebay_server.warmup import WarmUpError, ask, for_tasks

MIDDLEWARE = f"{__name__}.ForebayGate"
"""For vLLM's --middleware."""

PLUGIN = "forebay"
"""The name of the entry point in vllm.endpoint_plugins, for VLLM_PLUGINS."""


@dataclass
class ServerProcess:
    """What the gate and the plugin share."""

    state: ServerState
    keys: KeyRing | None
    drain: Drain
    limits: Limits
    jobs: JobSettings
    tasks: Collection[str] | None = None
    """What the model can do, in vLLM's words; set by the plugin."""

    async def warm_up(self, app: App, scope: Scope) -> None:
        try:
            if self.tasks is None:
                raise WarmUpError("vLLM did not load the plugin of forebay-server.")
            if request := for_tasks(self.tasks):
                await ask(app, scope, request)
        except WarmUpError as error:
            self.state.failure = Failure(
                "WarmUpFailed", str(error), "The container's log has the details.", EXIT_FAILURE
            )
            raise

    def serving(self) -> None:
        self.drain.install()


_current: ServerProcess | None = None


def begin(settings: Settings, state: ServerState) -> ServerProcess:
    """Raises StartError when the keys cannot be used."""
    global _current  # noqa: PLW0603 - vLLM gives its plugins no other way to what was made before it
    keys = KeyRing(settings.keys_dir) if settings.auth == "APIKey" else None
    _current = ServerProcess(state, keys, Drain(state, settings.drain_seconds), settings.limits, settings.jobs)
    return _current


def current() -> ServerProcess:
    """Raises RuntimeError where `begin` was not called, so that no server runs without its key check."""
    if _current is None:
        raise RuntimeError("This vLLM was not started by forebay-server.")
    return _current


class ForebayGate(Gate):
    """The Gate as vLLM makes it, with RunPod's jobs behind it."""

    def __init__(self, app: App) -> None:
        process = current()
        super().__init__(RunSync(app, process.jobs), process.state, process.keys, process, process.limits)
