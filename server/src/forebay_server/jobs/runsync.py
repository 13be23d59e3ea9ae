"""POST /v2/<endpoint>/runsync, answered by the pod itself: an ASGI middleware around vLLM's app.

The gateway's job executor calls this route, and clients may call it themselves.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from forebay_protocol import pod
from forebay_protocol.errors import ApiError, shorten
from forebay_protocol.job_fields import UNSUPPORTED_JOB_FIELDS
from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.request_fields import adapt_fields
from forebay_server.asgi import App, Receive, Scope, Send
from forebay_server.config.settings import JobSettings
from forebay_server.jobs.calls import Call, Form, call_of
from forebay_server.jobs.options import JobError
from forebay_server.jobs.outputs import emit
from forebay_server.jobs.transport import Transport, WithinProcess
from forebay_server.serving import routes
from forebay_server.serving.errors import send_error
from forebay_server.serving.response_headers import WORKER

logger = logging.getLogger(__name__)

JOB_LINES = pod.JOB_LINES.encode()
"""Each line is {"output": ITEM}. The last line is the job's {"status"}, with {"error"} if it failed."""


NOT_HERE = {
    "webhook": "webhook has no effect at a pod: omit it, or send the job to a gateway that has the job API.",
    **UNSUPPORTED_JOB_FIELDS,
}
"""Fields of a job that RunPod accepts and a pod does not -> what to do."""


class RunSync:
    """Runs at most `settings.max_concurrency` jobs concurrently. Passes all other requests to `app`."""

    def __init__(self, app: App, settings: JobSettings) -> None:
        self._app = app
        self._settings = settings
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not routes.RUNSYNC.match(scope["path"]):
            await self._app(scope, receive, send)
            return
        if scope["method"] != "POST":
            await send_error(ApiError(405, f"{scope['path']} takes POST only.", headers=(("allow", "POST"),)), send)
            return
        if self._running >= self._settings.max_concurrency:
            await send_error(too_many(self._settings.max_concurrency), send)
            return
        self._running += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self._running -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        body = await _read(receive)
        if body is None:
            return
        try:
            job = json.loads(body)
            if not isinstance(job, dict) or "input" not in job:
                raise ValueError("it has no input")
            seconds = _time_limit(job, self._settings)
        except (ValueError, RecursionError) as error:
            invalid = ApiError(400, f'The body must be JSON such as {{"input": {{"prompt": "Hello"}}}}: {error}.')
            await send_error(invalid, send)
            return
        if unsupported := next((name for name in NOT_HERE if job.get(name)), ""):
            await send_error(ApiError(400, NOT_HERE[unsupported], "unsupported_parameter", unsupported), send)
            return
        transport = WithinProcess(self._app, scope)
        if (b"accept", JOB_LINES) in scope["headers"]:
            answering = _send_lines(send, job["input"], transport, self._settings, seconds)
        else:
            answering = _send_whole(send, run(job["input"], transport, self._settings, seconds), arrived)
        running = asyncio.create_task(answering)
        disconnected = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((running, disconnected), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            for task in (running, disconnected):
                task.cancel()
            await asyncio.gather(running, disconnected, return_exceptions=True)


def too_many(limit: int) -> ApiError:
    """The answer to a job beyond MAX_CONCURRENCY."""
    message = f"{limit} jobs are running, which is this server's limit (MAX_CONCURRENCY). Try again."
    return ApiError(429, message, headers=(("retry-after", "1"),))


class RefusedCall(Exception):
    """The request of a job is rejected before it is sent, and the job asks for the whole answer."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


async def run(content: object, transport: Transport, settings: JobSettings, seconds: float) -> dict[str, Any]:
    """Run a job to its end. Returns {"output", "status": "COMPLETED"}, or {"error", "status"} if it fails."""
    output: list[object] = []

    async def collect(item: object) -> None:
        output.append(item)

    outcome = await run_to(collect, content, transport, settings, seconds)
    return {"output": output, **outcome} if outcome["status"] == "COMPLETED" else outcome


async def run_to(
    on_output: Callable[[object], Awaitable[None]],
    content: object,
    transport: Transport,
    settings: JobSettings,
    seconds: float,
) -> dict[str, Any]:
    """Run a job and call `on_output` with each item of its output. Returns {"status"}, with {"error"} if it fails."""
    try:
        async with asyncio.timeout(seconds):
            call = await resolve_call(content, transport, raw=settings.raw_vllm_output)
            await _emit_to(on_output, call, transport, settings)
            return {"status": "COMPLETED"}
    except RefusedCall as refused:
        await on_output({"status_code": refused.error.status, "body": refused.error.content()})
        return {"status": "COMPLETED"}
    except JobError as error:
        return {"error": str(error), "status": "FAILED"}
    except TimeoutError:
        return {"error": f"The job took longer than {seconds:g} s.", "status": "TIMED_OUT"}
    except RecursionError:
        return {"error": "The input is nested too deeply.", "status": "FAILED"}
    except Exception:
        logger.exception("A job failed")
        return {"error": "The server had an error while it ran the job.", "status": "FAILED"}


async def resolve_call(content: object, transport: Transport, *, raw: bool = False) -> Call:
    """Find the request of a job, with a model, under a path that the pod serves. `raw` is passed
    to call_of.

    Raises:
        JobError: the input or its path is not valid.
        RefusedCall: the request is rejected, and the job asks for the whole answer.
    """
    call = call_of(content, raw=raw)
    path, _, query = call.path.partition("?")
    route = routes.read_path(path)
    if not route.served or route.open or routes.RUNSYNC.match(route.path):
        raise JobError(f"There is no {shorten(call.method)} {shorten(call.path)} here.")
    path = route.path + (f"?{query}" if query else "")
    body = call.body
    if body is not None:
        try:
            body = adapt_fields(route.path, body)
        except Incompatible as error:
            raise (RefusedCall(error.error) if call.form is Form.WHOLE_ANSWER else JobError(str(error))) from None
    if body is not None and not body.get("model") and call.method != "GET" and call.form is not Form.WHOLE_ANSWER:
        body = {**body, "model": await served_model(transport)}  # as RunPod's worker does for every form
    return Call(call.method, path, body, call.form, call.batching)


async def served_model(transport: Transport) -> str:
    """The name of the first served model, which a job without a model uses."""
    async with transport.send("GET", "/v1/models", None) as reply:
        models = json.loads(b"".join([piece async for piece in reply.body]))
    return str(models["data"][0]["id"])


async def _emit_to(
    on_output: Callable[[object], Awaitable[None]], call: Call, transport: Transport, settings: JobSettings
) -> None:
    async with (
        transport.send(call.method, call.path, call.body) as reply,
        aclosing(emit(call, reply, settings)) as items,
    ):
        async for item in items:
            await on_output(item)


def envelope(outcome: dict[str, Any], arrived: float) -> dict[str, Any]:
    """RunPod's answer for a finished job. Times are in milliseconds. The delay is 0, as a pod does not queue jobs.

    `workerId` is the pod's name, as in the gateway's answers.
    """
    execution_time = round((time.monotonic() - arrived) * 1000)
    times = {"delayTime": 0, "executionTime": execution_time, "id": f"sync-{uuid.uuid4()}"}
    return {**times, **outcome, "workerId": WORKER[1].decode()}


def _time_limit(job: dict[str, Any], settings: JobSettings) -> float:
    """The job's time limit in seconds: REQUEST_TIMEOUT, or less if the job's policy sets less. Raises ValueError."""
    policy = job.get("policy") or {}
    milliseconds = policy.get("executionTimeout") if isinstance(policy, dict) else None
    if milliseconds is None:
        return settings.timeout
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float) or milliseconds <= 0:
        raise ValueError("policy.executionTimeout must be milliseconds")
    return min(settings.timeout * 1000, milliseconds) / 1000  # an integer may be too large for a float


async def _read(receive: Receive) -> bytes | None:
    """Read the request's body. Returns None if the client disconnects before it is complete."""
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)
    return None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_whole(send: Send, running: Awaitable[dict[str, Any]], arrived: float) -> None:
    await _send_json(send, envelope(await running, arrived))


async def _send_lines(send: Send, content: object, transport: Transport, settings: JobSettings, seconds: float) -> None:
    """Send a line for each item of the output when it arrives, and a last line with the status."""

    async def write(line: dict[str, Any]) -> None:
        await send({"type": "http.response.body", "body": _encode(line) + b"\n", "more_body": True})

    headers = [(b"content-type", JOB_LINES)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await write(await run_to(lambda item: write({"output": item}), content, transport, settings, seconds))
    await send({"type": "http.response.body", "body": b""})


async def _send_json(send: Send, content: dict[str, Any]) -> None:
    body = _encode(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _encode(content: dict[str, Any]) -> bytes:
    """JSON. Half of a surrogate pair, as clients that cut text write it, becomes a question mark."""
    return json.dumps(content, ensure_ascii=False).encode(errors="replace")
