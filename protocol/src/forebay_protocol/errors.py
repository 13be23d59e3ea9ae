"""Errors in the shape of the API that was called, as a whole answer and as the last event of a stream.

OpenAI's are {"error": {"message", "type", "param", "code"}}, with its types and codes. The official clients pick their
exception by the HTTP status; programs look at `code`. Both are as api.openai.com answers: type invalid_request_error
for everything that the caller can mend, 401 and 404 included.
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
"""HTTP status -> error type of Anthropic's API; "api_error" from 500 on, else invalid_request_error."""

MAX_ECHOED = 200
"""Characters of a path or a name that a message repeats."""


class ApiDialect(Enum):
    """Whose API a path belongs to, as far as the shape of an error depends on it."""

    OPENAI = "openai"
    RESPONSES = "responses"
    ANTHROPIC = "anthropic"
    RUNPOD = "runpod"


@dataclass(frozen=True)
class ApiError:
    """One error. `type` "" stands for the one that the status asks for."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    type: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def content(self, api: ApiDialect = ApiDialect.OPENAI) -> dict[str, Any]:
        """The body of an answer. The one for Anthropic's clients has their `type` in both places."""
        if api is ApiDialect.RUNPOD:
            return {"error": self.message}
        kind = self.type or (SERVER_ERROR if self.status >= 500 else INVALID_REQUEST)
        if api is ApiDialect.ANTHROPIC:
            kind = ANTHROPIC_TYPES.get(self.status, "api_error" if self.status >= 500 else INVALID_REQUEST)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"type": "error", "error": error} if api is ApiDialect.ANTHROPIC else {"error": error}

    def event(self, api: ApiDialect = ApiDialect.OPENAI) -> bytes:
        """The last event of a stream that was begun before the error.

        The Responses API has its fields at the top (openai.types.responses.ResponseErrorEvent); `error` beside them is
        what makes OpenAI's clients raise. `status` is the HTTP status that came too late.
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


def shorten(said: str) -> str:
    """What a client said, as a message repeats it."""
    return said if len(said) <= MAX_ECHOED else f"{said[:MAX_ECHOED]}…"


def body_too_large(limit: int) -> ApiError:
    return ApiError(413, f"The request's body is larger than {limit} bytes.", "request_too_large")
