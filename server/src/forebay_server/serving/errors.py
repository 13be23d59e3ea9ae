"""The errors of a pod. forebay_protocol has the errors that pod and gateway share."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from forebay_protocol import errors
from forebay_protocol.errors import ApiDialect, ApiError
from forebay_server.asgi import App, Receive, Scope, Send
from forebay_server.serving import validation_errors

RETRY_AFTER_SECONDS = 1

INTERNAL = ApiError(500, "The server had an error while processing your request.", "internal_error")

_FLAG = re.compile(
    r"(?<![\w/='\"-])`?--(?P<negated>no-)?(?P<name>[a-z][a-z0-9]*(?:-[a-z0-9]+)*)(?:\.[\w.-]+\b)?`?(?!['\"])"
)
"""A flag of vLLM in one of its messages. Text in quotes is the client's, and does not match."""

_PLACES = re.compile(
    r" at 0x[0-9a-fA-F]+(?=>)"
    r"|\n?Traceback \(most recent call last\):"
    r'|\n?\s*File "[^"]+", line \d+(, in \S+)?(\n\s+.*)?'
    r"|(?<![\w/.:-])/(?:home|usr|opt|var|tmp|root|lib|lib64|mnt|srv|cache|etc|run|proc|workspace)(?:/[\w.\-]+)+"
)


MAX_VLLM_MESSAGE_LENGTH = 2000
"""Characters of a message of vLLM that are kept."""


def refusal(error: ApiError, api: ApiDialect) -> App:
    """An app that answers every request with this error."""

    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await send_error(error, send, api)

    return refuse


async def send_error(error: ApiError, send: Send, api: ApiDialect = ApiDialect.OPENAI) -> None:
    """Answer the request with this error."""
    body = json.dumps(error.content(api)).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body))), *error.headers]
    lines = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": error.status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


_LATER = (("retry-after", str(RETRY_AFTER_SECONDS)),)
_CLOSE = (("connection", "close"),)

DRAINING = ApiError(503, "This server is shutting down. Try again.", "service_unavailable", headers=(*_LATER, *_CLOSE))
ASLEEP = ApiError(503, "The model of this server sleeps. Try again later.", "service_unavailable", headers=_LATER)
TOO_MANY_IN_FLIGHT = ApiError(
    429,
    "Too many requests are being answered by this server. Try again.",
    "rate_limit_exceeded",
    type="requests",
    headers=_LATER,
)
SLOW_BODY = replace(errors.SLOW_BODY, headers=_CLOSE)
MEDIA_NOT_FETCHED = ApiError(
    400, "An image, sound or video that the request names by its URL could not be fetched.", "media_not_fetched"
)

SUFFIX_NOT_SUPPORTED = (
    "This model cannot use a suffix: its tokenizer has none of the known tokens for filling in. Send the prompt "
    "without suffix."
)
RESPONSES_NOT_STORED = (
    "Responses are stored only if VLLM_ENABLE_RESPONSES_API_STORE=1 is in spec.env, in one pod's memory: "
    "send the whole conversation as input."
)


def too_large(limit: int) -> ApiError:
    """The error for a body of more than `limit` bytes. Its answer closes the connection."""
    return replace(errors.body_too_large(limit), headers=_CLOSE)


def not_available(operation: str, switch: str = "") -> ApiError:
    """The error for a part of the API that the loaded model, or this server, does not support.

    `switch`: the variable that makes it available; "" for none.
    """
    remedy = f" Set {switch}=true in spec.env to have it." if switch else ""
    return ApiError(404, f"{operation} is not available for this model.{remedy}", "not_available_for_model")


def of_status(status: int, detail: str, method: str, path: str) -> ApiError:
    """The error for a status that the web framework itself answers with, such as 405 for a wrong method."""
    if status == 405:
        return ApiError(405, f"Not allowed to {method} on {errors.shorten(path)}.", "method_not_supported")
    return ApiError(status, clean(detail) or HTTPStatus(status).phrase)


def of_vllm(status: int, body: Mapping[str, Any], request: bytes | None = None) -> ApiError:
    """Convert vLLM's error reply. Its type is the name of an exception class, and its code the HTTP status."""
    reply = body.get("error")
    error: Mapping[str, Any] = reply if isinstance(reply, Mapping) else {"message": body.get("detail", reply)}
    message = clean(str(error.get("message") or HTTPStatus(status).phrase))
    param = error.get("param")
    param = param.removeprefix("body.") if isinstance(param, str) else None
    if status >= 500 and status != 503:
        if error.get("type") == "NotImplementedError" or status == 501:
            return ApiError(400, message, "unsupported_operation", param)
        return INTERNAL
    if status == 503:
        return ApiError(503, message, "service_unavailable", headers=_LATER)
    if status == 404 and message.startswith("Response with id "):
        return ApiError(404, f"{message} {RESPONSES_NOT_STORED}", "response_not_found", param)
    if status == 404 and "model" in message and "does not exist" in message:
        return ApiError(404, message, "model_not_found", "model")
    if status == 400 and message.startswith(("suffix is only supported", "suffix is not currently")):
        return ApiError(400, SUFFIX_NOT_SUPPORTED, "unsupported_parameter", "suffix")
    if status == 400 and ("maximum context length" in message or "longer than the maximum model length" in message):
        return ApiError(400, message, "context_length_exceeded", param)
    return ApiError(status, message, None, param)


def name_omitted_tools(error: ApiError, tools: Sequence[str]) -> ApiError:
    """Add the tools that were removed from the request to an error about its tools."""
    if not tools or "TOOL_CALL_PARSER" not in error.message:
        return error
    names = ", ".join(name[:64] for name in tools[:16])
    return replace(error, message=f"{error.message} Tools that this server cannot run were removed: {names}.")


def clean(message: str) -> str:
    """Rewrite `message` as a sentence, without tracebacks, memory addresses and paths of the image.

    It names variables instead of flags. A long message is cut to its beginning and its end: vLLM repeats what a client
    sent, and a pattern may take quadratic time over it.
    """
    if len(message) > MAX_VLLM_MESSAGE_LENGTH:
        message = "…".join((message[: MAX_VLLM_MESSAGE_LENGTH // 2], message[1 - MAX_VLLM_MESSAGE_LENGTH // 2 :]))
    return name_variables(_PLACES.sub("", validation_errors.of_text(message)).strip())


def of_validation(details: Sequence[Mapping[str, Any] | str], body: Any) -> ApiError:
    """The error for pydantic's errors in a request's body. See validation_errors.of_errors for the arguments."""
    error = validation_errors.of_errors(details, body)
    return error if error.code else of_vllm(error.status, {"error": {"message": error.message, "param": error.param}})


def _name_variable(flag: re.Match[str]) -> str:
    name = flag["name"].replace("-", "_").upper()
    return f"{name}=false" if flag["negated"] else name


def name_variables(message: str) -> str:
    """Replace vLLM's flags in `message` by the variables of spec.env that set them."""
    named, count = _FLAG.subn(_name_variable, message)
    return f"{named.rstrip('.')} (in spec.env of the endpoint)." if count else message
