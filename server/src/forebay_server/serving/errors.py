"""Errors as OpenAI sends them: {"error": {"message", "type", "param", "code"}}, with its types and codes.

The official clients pick their exception by the HTTP status; programs look at `code`. Both are as api.openai.com
answers: type invalid_request_error for everything that the caller can mend, 401 and 404 included.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from forebay_server.asgi import Send

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
"""HTTP status -> error type of Anthropic's API; "api_error" from 500 on, else invalid_request_error."""

RETRY_AFTER_SECONDS = 1

_PLACES = re.compile(
    r" at 0x[0-9a-fA-F]+(?=>)"
    r"|\n?Traceback \(most recent call last\):"
    r'|\n?\s*File "[^"]+", line \d+(, in \S+)?(\n\s+.*)?'
    r"|(?<![\w/.:-])/(?:home|usr|opt|var|tmp|root|lib|lib64|mnt|srv|cache|etc|run|proc|workspace)(?:/[\w.\-]+)+"
)


@dataclass(frozen=True)
class ApiError:
    """One error reply. `type` "" stands for the one that the status asks for."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    type: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def content(self, *, anthropic: bool = False) -> dict[str, Any]:
        """The body. The one for Anthropic's clients has their `type` in both places and OpenAI's other fields too."""
        kind = self.type or (SERVER_ERROR if self.status >= 500 else INVALID_REQUEST)
        if anthropic:
            kind = ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else INVALID_REQUEST)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"type": "error", "error": error} if anthropic else {"error": error}

    async def send(self, send: Send, *, anthropic: bool = False) -> None:
        """Answer the request with this error."""
        body = json.dumps(self.content(anthropic=anthropic)).encode()
        await send({"type": "http.response.start", "status": self.status, "headers": self._head(len(body))})
        await send({"type": "http.response.body", "body": body})

    def _head(self, length: int) -> list[tuple[bytes, bytes]]:
        headers = [("content-type", "application/json"), ("content-length", str(length)), *self.headers]
        return [(name.encode(), value.encode()) for name, value in headers]


_CHALLENGE = (("www-authenticate", "Bearer"),)
_LATER = (("retry-after", str(RETRY_AFTER_SECONDS)),)
_CLOSE = (("connection", "close"),)

MISSING_KEY = ApiError(
    401, "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.", headers=_CHALLENGE
)
WRONG_KEY = ApiError(401, "The API key is not valid for this endpoint.", "invalid_api_key", headers=_CHALLENGE)
DRAINING = ApiError(503, "This server is shutting down. Try again.", "service_unavailable", headers=(*_LATER, *_CLOSE))
ASLEEP = ApiError(503, "The model of this server sleeps. Try again later.", "service_unavailable", headers=_LATER)
TOO_MANY = ApiError(
    429,
    "Too many requests are being answered by this server. Try again.",
    "rate_limit_exceeded",
    type="requests",
    headers=_LATER,
)
SLOW_BODY = ApiError(408, "The request's body did not arrive in time.", "request_timeout", headers=_CLOSE)
MEDIA_NOT_FETCHED = ApiError(
    400, "An image, sound or video that the request names by its URL could not be fetched.", "media_not_fetched"
)
MODEL_MISSING = ApiError(400, "you must provide a model parameter", "missing_required_parameter", "model")


def too_large(limit: int) -> ApiError:
    return ApiError(413, f"The request's body is larger than {limit} bytes.", "request_too_large", headers=_CLOSE)


def not_found(method: str, path: str) -> ApiError:
    return ApiError(404, f"Invalid URL ({method} {path})", "unknown_url")


def not_available(operation: str) -> ApiError:
    """For a part of the API that the loaded model, or this server, has nothing for."""
    return ApiError(404, f"{operation} is not available for this model.", "not_available_for_model")


def of_status(status: int, detail: str, method: str, path: str) -> ApiError:
    """The error for a status that the web framework answers by itself, such as 405 for a route's other methods."""
    if status == 405:
        return ApiError(405, f"Not allowed to {method} on {path}.", "method_not_supported")
    return ApiError(status, clean(detail) or HTTPStatus(status).phrase)


def of_vllm(status: int, body: Mapping[str, Any], request: bytes | None = None) -> ApiError:
    """vLLM's own error reply, whose type is the name of an exception class and whose code is the HTTP status."""
    found = body.get("error")
    error: Mapping[str, Any] = found if isinstance(found, Mapping) else {"message": body.get("detail", found)}
    message = clean(str(error.get("message") or HTTPStatus(status).phrase))
    param = error.get("param")
    param = param.removeprefix("body.") if isinstance(param, str) else None
    if status >= 500 and status != 503:
        if error.get("type") == "NotImplementedError" or status == 501:
            return ApiError(400, message, "unsupported_operation", param)
        return ApiError(500, "The server had an error while processing your request.", "internal_error")
    if status == 503:
        return ApiError(503, message, "service_unavailable", headers=_LATER)
    if status == 404 and "model" in message and "does not exist" in message:
        return ApiError(404, message, "model_not_found", "model")
    if status == 400 and ("maximum context length" in message or "longer than the maximum model length" in message):
        return ApiError(400, message, "context_length_exceeded", param)
    return ApiError(status, message, None, param)


def clean(message: str) -> str:
    """`message` without tracebacks, addresses in memory and paths of the image."""
    return _PLACES.sub("", message).strip()
