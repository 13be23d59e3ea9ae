"""The errors of the gateway's answers. Errors that pods use too are in forebay_protocol."""

import json
from collections.abc import Iterable
from http import HTTPStatus

from forebay_gateway.http.job_operations import needs_id
from forebay_protocol.errors import ApiError, shorten


class Refused(Exception):
    """The request is answered with this error."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def retry_after(seconds: float) -> tuple[tuple[str, str], ...]:
    """The header with the seconds until a retry."""
    return (("retry-after", str(max(1, round(seconds)))),)


DRAINING = ApiError(503, "This gateway is shutting down. Try again.", "service_unavailable", headers=retry_after(1))
SLOW_HEAD = ApiError(408, "The request's head did not arrive in time.", "request_timeout")
BUSY = ApiError(
    503, "Too many clients are connected to this gateway. Try again.", "service_unavailable", headers=retry_after(1)
)
INTERNAL = ApiError(500, "The gateway had an error while processing your request.", "internal_error")
NO_JOBS = ApiError(
    501,
    "Jobs are off: there are several gateways and no Valkey. To turn them on, install the chart with "
    "valkey.create=true, valkey.existingSecret or gateway.replicas=1. /runsync and /openai/v1 work without.",
    "jobs_off",
)
AT_ZERO = ApiError(
    404,
    "No pod of the endpoint is ready. This kind of request starts none, because its data was in a pod.",
    "endpoint_not_ready",
)
NO_FILES = ApiError(
    404, "Files and batches are off: they need the job API, and it is off in this gateway.", "unknown_url"
)
BAD_REQUEST = ApiError(400, "This is not a valid HTTP/1.1 request.", "invalid_http")
BAD_ANSWER = ApiError(502, "The server's answer is not valid HTTP/1.1.", "bad_gateway")
REQUEST_NOT_ACCEPTED = ApiError(502, "The server did not accept the request.", "bad_gateway")
NO_BODY = ApiError(413, "A request to this path has no body.", "request_too_large")
BAD_JSON = ApiError(400, "The request's body is not a JSON object.", "invalid_json")
TOO_MANY_VALUES = ApiError(
    413,
    "The request's body has too many values: at most 2,000,000 commas and brackets are allowed.",
    "request_too_large",
)
TOO_MANY_WAITING = ApiError(
    429,
    "Too many requests are waiting in this gateway. Try again.",
    "rate_limit_exceeded",
    type="requests",
    headers=retry_after(1),
)
NO_ANSWER = ApiError(502, "The server ended the connection before it answered.", "bad_gateway")


def bad_request(why: str) -> ApiError:
    """The error for a request that is not valid HTTP/1.1. `why` is the end of its message."""
    return ApiError(400, f"This is not a valid HTTP/1.1 request: {why}.", "invalid_http")


def method_not_allowed(method: str, allowed: Iterable[str]) -> ApiError:
    """The error for a path that has only the `allowed` methods."""
    listed = ", ".join(sorted(allowed))
    headers = (("allow", listed),)
    return ApiError(405, f"The method {method} is not one of {listed}.", "method_not_allowed", headers=headers)


def bad_operation(method: str, path: str, operation: str) -> ApiError:
    """The error for an invalid path of the job API."""
    after = f"/{operation}/ID, where ID is a job's" if needs_id(operation) else f"/{operation}"
    return ApiError(404, f"Invalid URL ({method} {shorten(path)}). It ends with {after}.", "unknown_url")


def head_too_large(limit: int) -> ApiError:
    """The error for a request line and headers of more than `limit` bytes."""
    return ApiError(431, f"The request's head is larger than {limit} bytes.", "request_head_too_large")


def no_endpoint(name: str) -> ApiError:
    """The error for an endpoint that does not exist, or that the key does not authorize."""
    return ApiError(404, f"There is no endpoint '{shorten(name)}' that this key opens.", "endpoint_not_found")


def file_too_large(limit: int) -> ApiError:
    """The error for a file that is too large for the bucket."""
    text = f"A file can have at most {limit} bytes. To allow more, raise file_bytes in gateway.settings of the chart."
    return ApiError(413, text, "request_too_large", "file")


def file_too_large_for_store(limit: int, bucket_limit: int) -> ApiError:
    """The error for a file that is too large without a bucket. With a bucket it may have `bucket_limit` bytes."""
    text = (
        f"A file can have at most {limit} bytes, with the form around it. To allow more, raise body_bytes in "
        f"gateway.settings of the chart, or use a bucket (gateway.files.s3.bucket), with up to {bucket_limit} bytes."
    )
    return ApiError(413, text, "request_too_large", "file")


def no_model(name: str) -> ApiError:
    """The error for a model that no endpoint of the key serves."""
    return ApiError(404, f"The model `{shorten(name)}` does not exist.", "model_not_found", "model")


def ambiguous_model(model: str, ids: list[str]) -> ApiError:
    """The error for a model that several endpoints serve. `ids` are the IDs of these endpoints."""
    listed = " and ".join(f"/v2/{name}/openai/v1" for name in sorted(ids))
    text = f"More than one endpoint serves the model `{model}` under this key. Use the URL of one: {listed}."
    return ApiError(409, text, "ambiguous_model", "model")


def ambiguous_endpoint(why: str, ids: list[str]) -> ApiError:
    """The error for a request that names no model, if the key authorizes several endpoints. `ids` are the IDs of these
    endpoints."""
    listed = " or ".join(f"/v2/{name}/openai/v1" for name in sorted(ids))
    text = f"{why}, and there is more than one endpoint that may be meant. Use the URL of one: {listed}."
    return ApiError(409, text, "ambiguous_endpoint")


def switched_off(name: str, why: str) -> ApiError:
    """The error for an endpoint that its owner has switched off. `why` names the field."""
    text = f"The endpoint '{name}' is switched off ({why}), and a request does not start it."
    return ApiError(503, text, "endpoint_off", headers=retry_after(60))


def too_many_held(name: str) -> ApiError:
    """The error for a request beyond the limit of held requests of an endpoint."""
    text = f"Too many requests wait for the endpoint '{name}' to start. Try again."
    return ApiError(429, text, "rate_limit_exceeded", type="requests", headers=retry_after(10))


def of_pod(status: int, body: bytes) -> ApiError:
    """The error in a pod's answer, to be sent as an event. Its text is passed on."""
    try:
        content = json.loads(body)
        error = content["error"]
        return ApiError(
            status, str(error["message"]), error.get("code"), error.get("param"), str(error.get("type") or "")
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        phrase = HTTPStatus(status).phrase if status in {each.value for each in HTTPStatus} else "no such status"
        return ApiError(status, f"The server answered {status} ({phrase}).", "bad_gateway")
