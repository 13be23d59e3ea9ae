"""The door to the engine's controls on the ops port: a token of its own, which is never a user's key, and vLLM's paths.

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
from forebay_server.serving.key_check import KeyCheck

LONGEST_WAIT = 300
"""Seconds before it falls asleep."""

CONTROL_TIMEOUT = 600.0
"""How long the answer to one operation is waited for: running requests finish before the engine sleeps."""

BODY_BYTES = 1 << 16

_CHALLENGE = (("www-authenticate", "Bearer"),)

OFF = ApiError(403, "Engine control is off: no token was mounted for it (FOREBAY_CONTROL_DIR).", "control_off")
NO_TOKEN = ApiError(
    401,
    "Send the token for engine control as 'Authorization: Bearer TOKEN'. An API key is not accepted.",
    "invalid_control_token",
    headers=_CHALLENGE,
)
NO_ENGINE = ApiError(503, "No engine is running: the server is starting or shutting down.", "service_unavailable")
UNFINISHED = ApiError(504, f"The engine was not done after {CONTROL_TIMEOUT:g} s, and goes on.", "timeout")
TOO_LARGE = ApiError(413, f"The body is larger than {BODY_BYTES} bytes.", "request_too_large")


@dataclass(frozen=True)
class ControlRequest:
    """One for a path of CONTROL_OPERATIONS."""

    method: str
    target: str
    """Path and query."""
    authorization: str
    length: int
    """Of the body."""
    read: Callable[[int], bytes]
    """Gives the body: called only for one who has a token."""


class Control:
    """Let in who has a token. `tokens` None: nobody."""

    def __init__(self, tokens: KeyCheck | None) -> None:
        self._tokens = tokens
        self._engine: Callable[[], Engine | None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, engine: Callable[[], Engine | None], loop: asyncio.AbstractEventLoop) -> None:
        """From now on operations reach `engine`, while it gives one, on `loop`."""
        self._engine, self._loop = engine, loop

    def answer(self, request: ControlRequest) -> tuple[HTTPStatus, dict[str, object], tuple[tuple[str, str], ...]]:
        """Status, body and headers of the answer to a request for a path of CONTROL_OPERATIONS."""
        try:
            return HTTPStatus.OK, self._perform(request), ()
        except EngineRefused as refused:
            error = refused.error
            return HTTPStatus(error.status), error.content(), error.headers

    def _perform(self, request: ControlRequest) -> ControlAnswer:
        if self._tokens is None:
            raise EngineRefused(OFF)
        scheme, _, token = request.authorization.partition(" ")
        if scheme.lower() != "bearer" or not self._tokens.accepts(token.strip()):
            raise EngineRefused(NO_TOKEN)
        path, query = urlsplit(request.target).path, parse_qs(urlsplit(request.target).query)
        method, operation = CONTROL_OPERATIONS[path]
        if request.method != method:
            raise EngineRefused(ApiError(405, f"{path} takes {method} only.", headers=(("allow", method),)))
        if request.length > BODY_BYTES:
            raise EngineRefused(TOO_LARGE)
        asked = operation(query, _fields(request.read(request.length)))
        engine = self._engine()
        if engine is None or self._loop is None:
            raise EngineRefused(NO_ENGINE)
        try:
            return asyncio.run_coroutine_threadsafe(asked(engine), self._loop).result(CONTROL_TIMEOUT)
        except TimeoutError as error:
            raise EngineRefused(UNFINISHED) from error
        except CancelledError as error:
            raise EngineRefused(NO_ENGINE) from error


Query = Mapping[str, list[str]]
ControlFields = Mapping[str, Any]
Asked = Callable[[Engine], Coroutine[Any, Any, ControlAnswer]]


def _fields(body: bytes) -> ControlFields:
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise EngineRefused(ApiError(400, f"The body is not JSON: {error}.")) from error
    if not isinstance(content, dict):
        raise EngineRefused(ApiError(400, "The body must be a JSON object."))
    return content


def _sleep(query: Query, fields: ControlFields) -> Asked:
    level, mode = query.get("level", ["1"])[-1], query.get("mode", [MODES[0]])[-1]
    if level not in ("0", "1", "2"):
        raise EngineRefused(ApiError(400, f"level is {level!r}; it must be 0, 1 or 2.", None, "level"))
    if mode not in MODES:
        raise EngineRefused(ApiError(400, f"mode is {mode!r}; it must be one of {', '.join(MODES)}.", None, "mode"))
    after = query.get("after", ["0"])[-1]
    if not after.isdecimal() or len(after) > len(str(LONGEST_WAIT)) or int(after) > LONGEST_WAIT:
        raise EngineRefused(
            ApiError(400, f"after is {after!r}; it must be 0 to {LONGEST_WAIT} seconds.", None, "after")
        )
    return lambda engine: engine.sleep(int(level), mode, float(after))


def _wake_up(query: Query, fields: ControlFields) -> Asked:
    tags = query.get("tags", [])
    if wrong := [tag for tag in tags if tag not in ("weights", "kv_cache")]:
        raise EngineRefused(ApiError(400, f"tags has {wrong[0]!r}; the tags are weights and kv_cache.", None, "tags"))
    return lambda engine: engine.wake_up(tags)


CONTROL_OPERATIONS: dict[str, tuple[str, Callable[[Query, ControlFields], Asked]]] = {
    "/is_sleeping": ("GET", lambda query, fields: lambda engine: engine.is_sleeping()),
    "/sleep": ("POST", _sleep),
    "/wake_up": ("POST", _wake_up),
    "/v1/load_lora_adapter": ("POST", lambda query, fields: lambda engine: engine.load_adapter(fields)),
    "/v1/unload_lora_adapter": ("POST", lambda query, fields: lambda engine: engine.unload_adapter(fields)),
    "/start_profile": ("POST", lambda query, fields: lambda engine: engine.profile(start=True)),
    "/stop_profile": ("POST", lambda query, fields: lambda engine: engine.profile(start=False)),
}
"""Path, as in vLLM -> method and what to ask of the engine. To build it may raise EngineRefused."""
