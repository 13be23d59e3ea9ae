"""Errors as an OpenAI client expects them: {"error": {"message", "type", "param", "code"}}.

Types and codes are those of vLLM's own errors (the name of the exception class, and the HTTP status), so that an
endpoint speaks with one voice; the official clients pick their exception by the HTTP status.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus

from forebay_server.asgi import Send

TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    503: "ServiceUnavailableError",
}


@dataclass(frozen=True)
class ApiError:
    """One error reply."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()

    def content(self) -> dict[str, object]:
        kind = TYPES.get(self.status, "InternalServerError" if self.status >= 500 else "BadRequestError")
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.status}}

    async def send(self, send: Send) -> None:
        """Answer the request with this error."""
        body = json.dumps(self.content()).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), *self.headers]
        encoded = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})


MISSING_KEY = ApiError(
    401, "No API key was given. Send it as 'Authorization: Bearer KEY'.", (("www-authenticate", "Bearer"),)
)
WRONG_KEY = ApiError(401, "The API key is not valid for this endpoint.", (("www-authenticate", "Bearer"),))
DRAINING = ApiError(503, "This server is shutting down. Try again.", (("retry-after", "1"), ("connection", "close")))


def not_found(method: str, path: str) -> ApiError:
    return ApiError(404, f"There is no {method} {path} here.")


def of_status(status: int, detail: str, method: str, path: str) -> ApiError:
    """The error for a status that the web framework answers by itself, such as 404 for a route that is not there."""
    if status == 404:
        return not_found(method, path)
    if status == 405:
        return ApiError(405, f"{path} does not take {method}.")
    return ApiError(status, detail or HTTPStatus(status).phrase)
