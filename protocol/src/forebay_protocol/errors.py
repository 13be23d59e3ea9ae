"""Errors in the shape of the called API, as a whole answer and as the last event of a stream.

OpenAI's errors are {"error": {"message", "type", "param", "code"}}, with its types and codes. The official clients
choose their exception by the HTTP status, and programs read `code`. Both are as in answers of api.openai.com. The type
is invalid_request_error for all errors that the caller can fix, also for 401 and 404.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

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
"""HTTP status -> error type of Anthropic's API. Others are "api_error" from 500 on, else invalid_request_error."""

MAX_ECHOED = 200
"""The most characters of a path or a name that a message repeats."""


class ApiDialect(Enum):
    """The APIs whose errors have different shapes."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"
    RUNPOD = "runpod"


@dataclass(frozen=True)
class ApiError:
    """One error. If `type` is "", the status decides the type."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    type: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def content(self, api: ApiDialect = ApiDialect.OPENAI) -> dict[str, Any]:
        """The body of an answer. In Anthropic's shape both objects have a `type`."""
        if api is ApiDialect.RUNPOD:
            return {"error": self.message}
        kind = self.type or (SERVER_ERROR if self.status >= 500 else INVALID_REQUEST)
        if api is ApiDialect.ANTHROPIC:
            kind = ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else INVALID_REQUEST)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"type": "error", "error": error} if api is ApiDialect.ANTHROPIC else {"error": error}

    def event(self, api: ApiDialect = ApiDialect.OPENAI) -> bytes:
        """The last event of a stream that began before the error.

        The Responses API has the fields at the top level (openai.types.responses.ResponseErrorEvent). OpenAI's clients
        raise because of `error` beside them. `status` is the HTTP status, which cannot be sent any more.
        """
        content = self.content(api)
        if api is not ApiDialect.RUNPOD:
            content["error"]["status"] = self.status
        name = b""
        if api is ApiDialect.RESPONSES:
            top = {"type": "error", "code": self.code, "message": self.message, "param": self.param}
            content = {**top, "sequence_number": 0, **content}
        if api in (ApiDialect.RESPONSES, ApiDialect.ANTHROPIC):
            name = b"event: error\n"
        return b"%sdata: %s\n\n" % (name, json.dumps(content).encode())


_CHALLENGE = (("www-authenticate", "Bearer"),)

MISSING_KEY = ApiError(
    401, "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.", headers=_CHALLENGE
)
WRONG_KEY = ApiError(401, "The API key is not valid for this endpoint.", "invalid_api_key", headers=_CHALLENGE)
SLOW_BODY = ApiError(408, "The request's body did not arrive in time.", "request_timeout")
MODEL_MISSING = ApiError(400, "you must provide a model parameter", "missing_required_parameter", "model")


def shorten(text: str) -> str:
    """Shorten a client's text for a message to MAX_ECHOED characters."""
    return text if len(text) <= MAX_ECHOED else f"{text[:MAX_ECHOED]}…"


def body_too_large(limit: int) -> ApiError:
    """The error for a body of more than `limit` bytes."""
    return ApiError(413, f"The request's body is larger than {limit} bytes.", "request_too_large")
