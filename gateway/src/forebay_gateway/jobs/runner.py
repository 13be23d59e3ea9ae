"""Runs one job at a pod, which gives its output line by line (forebay_server.jobs.runsync)."""

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass

import aiohttp

from forebay_gateway.endpoint import Address
from forebay_gateway.jobs.job import Job, State

LINES = "application/x-ndjson"

LONGEST_LINE = 1 << 24
"""Bytes of an item of the output."""


AT_ONCE = 500
"""Items that are given together."""


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


async def run(
    session: aiohttp.ClientSession, pod: Address, job: Job
) -> AsyncGenerator[tuple[Sequence[str], Outcome | None]]:
    """Run a job; gives the items of its output, as JSON, as they come, and with the last ones how it ended.

    To close this ends the generation. Raises Busy, Unreached and Gone.
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
                yield (), Outcome(State.FAILED, _error(answer.status, await answer.read()))
                return
            if LINES not in answer.headers.get("Content-Type", ""):
                yield _read_whole(await answer.read())
                return
            rest = bytearray()
            async for data in answer.content.iter_any():
                rest += data
                if len(rest) > LONGEST_LINE:
                    yield (), Outcome(State.FAILED, "An item of the output is too large.")
                    return
                if b"\n" not in data:
                    continue
                *lines, last = rest.split(b"\n")
                rest = bytearray(last)
                for items, outcome in _read_lines(lines):
                    yield items, outcome
                    if outcome:
                        return
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreached(repr(error)) from error
    except (OSError, aiohttp.ClientError) as error:
        raise Gone(repr(error)) from error
    raise Gone("the answer broke off")


def _read_lines(lines: Sequence[bytearray]) -> Iterator[tuple[Sequence[str], Outcome | None]]:
    items: list[str] = []
    for line in lines:
        told = json.loads(line)
        if "output" not in told:
            yield items, Outcome(State(told["status"]), told.get("error", ""))
            return
        items.append(json.dumps(told["output"], ensure_ascii=False))
        if len(items) == AT_ONCE:
            yield items, None
            items = []
    if items:
        yield items, None


def _read_whole(body: bytes) -> tuple[Sequence[str], Outcome]:
    """What a server from before the lines answers: the output at the end."""
    try:
        told = json.loads(body)
        state = State(told["status"])
        items = list(told.get("output") or ())
    except (ValueError, TypeError, KeyError, AttributeError):
        return (), Outcome(State.FAILED, "The server's answer is none of a job.")
    given = [json.dumps(item, ensure_ascii=False) for item in items]
    return given, Outcome(state, str(told.get("error", "")))


def _error(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, TypeError, KeyError):
        return f"The server answered {status}."
