"""Engine control on the ops port, under vLLM's paths. Engine control has its own token, which is never a user's key.

The threads of the ops port call `answer`; the operation itself runs on vLLM's event loop.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from forebay_protocol.errors import ApiError
from forebay_server.serving.engine import MODES, ControlAnswer, Engine, EngineRefused
from forebay_server.serving.key_ring import KeyRing

MAX_SLEEP_DELAY = 300
"""The most seconds that a client may set for `after`."""

CONTROL_TIMEOUT = 600.0
"""Seconds that an operation may take, as running requests may finish before the engine sleeps."""

BODY_BYTES = 1 << 16

_CHALLENGE = (("www-authenticate", "Bearer"),)

CONTROL_OFF = ApiError(403, "Engine control is off: no token was mounted for it (FOREBAY_CONTROL_DIR).", "control_off")
NO_TOKEN = ApiError(
    401,
    "Send the token for engine control as 'Authorization: Bearer TOKEN'. An API key is not accepted.",
    "invalid_control_token",
    headers=_CHALLENGE,
)
NO_ENGINE = ApiError(503, "No engine is running: the server is starting or shutting down.", "service_unavailable")
UNFINISHED = ApiError(504, f"The engine did not finish within {CONTROL_TIMEOUT:g} s, and continues.", "timeout")
TOO_LARGE = ApiError(413, f"The body is larger than {BODY_BYTES} bytes.", "request_too_large")


@dataclass(frozen=True)
class ControlRequest:
    """A request for a path of CONTROL_OPERATIONS."""

    method: str
    target: str
    """Path and query."""
    authorization: str
    length: int
    """Bytes of the body."""
    read: Callable[[int], bytes]
    """Reads the body. It is called only after the token was checked."""


class Control:
    """Runs operations for clients with a token. If `tokens` is None, control is off."""

    def __init__(self, tokens: KeyRing | None) -> None:
        self._tokens = tokens
        self._engine: Callable[[], Engine | None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, engine: Callable[[], Engine | None], loop: asyncio.AbstractEventLoop) -> None:
        """Run all later operations on `loop`, by the engine that `engine` returns. `engine` returns None if there is no
        engine."""
        self._engine, self._loop = engine, loop

    def answer(self, request: ControlRequest) -> tuple[HTTPStatus, dict[str, object], tuple[tuple[str, str], ...]]:
        """Perform a request. Returns status, body and headers of the answer."""
        try:
            return HTTPStatus.OK, self._perform(request), ()
        except EngineRefused as refused:
            error = refused.error
            return HTTPStatus(error.status), error.content(), error.headers

    def _perform(self, request: ControlRequest) -> ControlAnswer:
        if self._tokens is None:
            raise EngineRefused(CONTROL_OFF)
        scheme, _, token = request.authorization.partition(" ")
        if scheme.lower() != "bearer" or not self._tokens.accepts(token.strip()):
            raise EngineRefused(NO_TOKEN)
        path, query = urlsplit(request.target).path, parse_qs(urlsplit(request.target).query)
        method, operation = CONTROL_OPERATIONS[path]
        if request.method != method:
            raise EngineRefused(ApiError(405, f"{path} takes {method} only.", headers=(("allow", method),)))
        if request.length > BODY_BYTES:
            raise EngineRefused(TOO_LARGE)
        run = operation(query, _fields(request.read(request.length)))
        engine = self._engine()
        if engine is None or self._loop is None:
            raise EngineRefused(NO_ENGINE)
        try:
            return asyncio.run_coroutine_threadsafe(run(engine), self._loop).result(CONTROL_TIMEOUT)
        except TimeoutError as error:
            raise EngineRefused(UNFINISHED) from error
        except CancelledError as error:
            raise EngineRefused(NO_ENGINE) from error


Query = Mapping[str, list[str]]
ControlFields = Mapping[str, Any]
EngineOperation = Callable[[Engine], Coroutine[Any, Any, ControlAnswer]]


def _fields(body: bytes) -> ControlFields:
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise EngineRefused(ApiError(400, f"The body is not JSON: {error}.")) from error
    if not isinstance(content, dict):
        raise EngineRefused(ApiError(400, "The body must be a JSON object."))
    return content


def _sleep(query: Query, fields: ControlFields) -> EngineOperation:
    level, mode = query.get("level", ["1"])[-1], query.get("mode", [MODES[0]])[-1]
    if level not in ("0", "1", "2"):
        raise EngineRefused(ApiError(400, f"level is {level!r}; it must be 0, 1 or 2.", None, "level"))
    if mode not in MODES:
        raise EngineRefused(ApiError(400, f"mode is {mode!r}; it must be one of {', '.join(MODES)}.", None, "mode"))
    after = query.get("after", ["0"])[-1]
    if not after.isdecimal() or len(after) > len(str(MAX_SLEEP_DELAY)) or int(after) > MAX_SLEEP_DELAY:
        raise EngineRefused(
            ApiError(400, f"after is {after!r}; it must be 0 to {MAX_SLEEP_DELAY} seconds.", None, "after")
        )
    return lambda engine: engine.sleep(int(level), mode, float(after))


def _wake_up(query: Query, fields: ControlFields) -> EngineOperation:
    tags = query.get("tags", [])
    if wrong := [tag for tag in tags if tag not in ("weights", "kv_cache")]:
        raise EngineRefused(ApiError(400, f"tags has {wrong[0]!r}; the tags are weights and kv_cache.", None, "tags"))
    return lambda engine: engine.wake_up(tags)


CONTROL_OPERATIONS: dict[str, tuple[str, Callable[[Query, ControlFields], EngineOperation]]] = {
    "/is_sleeping": ("GET", lambda query, fields: lambda engine: engine.is_sleeping()),
    "/sleep": ("POST", _sleep),
    "/wake_up": ("POST", _wake_up),
    "/v1/load_lora_adapter": ("POST", lambda query, fields: lambda engine: engine.load_adapter(fields)),
    "/v1/unload_lora_adapter": ("POST", lambda query, fields: lambda engine: engine.unload_adapter(fields)),
    "/start_profile": ("POST", lambda query, fields: lambda engine: engine.profile(start=True)),
    "/stop_profile": ("POST", lambda query, fields: lambda engine: engine.profile(start=False)),
}
"""Path, as in vLLM -> method, and function that validates a request and returns the operation.

The function may raise EngineRefused."""
