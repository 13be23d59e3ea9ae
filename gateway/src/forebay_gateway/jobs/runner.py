"""Runs one job at a pod, which gives its output line by line (forebay_server.jobs.runsync)."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from forebay_gateway.endpoint import Address
from forebay_gateway.jobs.job import Job, State

LINES = "application/x-ndjson"

LONGEST_LINE = 1 << 24
"""Bytes of an item of the output."""


class Busy(Exception):
    """The pod takes no more jobs now."""


class Gone(Exception):
    """The pod went away, or never was there, before the job was over."""


class Unreached(Gone):
    """The pod took no connection: the job had nothing to do with it."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended at the pod."""

    state: State
    error: str = ""


async def run(session: aiohttp.ClientSession, pod: Address, job: Job, take: Callable[[str], None]) -> Outcome:
    """Run a job; each item of its output is taken as JSON as soon as it is there. To cancel this ends the generation.

    Raises Busy, Unreached and Gone.
    """
    policy = json.dumps({"executionTimeout": job.submission.timeout * 1000})
    body = f'{{"input": {job.submission.input}, "policy": {policy}}}'.encode()
    headers = {"Authorization": f"Bearer {job.api_key}", "Accept": LINES, "X-Request-Id": job.id}
    headers["Content-Type"] = "application/json"
    try:
        async with session.post(
            f"http://{pod.url_host}:{pod.port}/v2/{job.endpoint[1]}/runsync", data=body, headers=headers
        ) as answer:
            if answer.status in (429, 503):
                raise Busy
            if answer.status != 200:
                return Outcome(State.FAILED, _error(answer.status, await answer.read()))
            if LINES not in answer.headers.get("Content-Type", ""):
                return _read_whole(await answer.read(), take)
            rest = bytearray()
            async for data in answer.content.iter_any():
                rest += data
                if len(rest) > LONGEST_LINE:
                    return Outcome(State.FAILED, "An item of the output is too large.")
                if b"\n" not in data:
                    continue
                *lines, last = rest.split(b"\n")
                rest = bytearray(last)
                for line in lines:
                    told = json.loads(line)
                    if "output" in told:
                        take(json.dumps(told["output"], ensure_ascii=False))
                    else:
                        return Outcome(State(told["status"]), told.get("error", ""))
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreached(repr(error)) from error
    except (OSError, aiohttp.ClientError) as error:
        raise Gone(repr(error)) from error
    raise Gone("the answer broke off")


def _read_whole(body: bytes, take: Callable[[str], None]) -> Outcome:
    """What a server from before the lines answers: the output at the end."""
    try:
        told = json.loads(body)
        state = State(told["status"])
        items = list(told.get("output") or ())
    except (ValueError, TypeError, KeyError, AttributeError):
        return Outcome(State.FAILED, "The server's answer is none of a job.")
    for item in items:
        take(json.dumps(item, ensure_ascii=False))
    return Outcome(state, str(told.get("error", "")))


def _error(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, TypeError, KeyError):
        return f"The server answered {status}."
