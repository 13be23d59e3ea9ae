"""A job, its states, and its form in the answers of RunPod's API.

The stores keep jobs, the dispatcher runs them, and the job API and webhooks return them.
"""

import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.quotas import memory_of
from forebay_gateway.jobs.submission import Submission
from forebay_kube.endpoint_key import EndpointKey

JOB_OVERHEAD = 3000
"""Bytes of a job without its input and output, as bench.jobs measures them."""


MAX_USAGE_SEARCH_LENGTH = 64 << 10
"""The most characters of an item that is searched for token counts. A longer item is not searched."""


class State(StrEnum):
    """The states of a job, as RunPod's API names them."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self not in (State.IN_QUEUE, State.IN_PROGRESS)

    @property
    def retryable(self) -> bool:
        """Whether a client may retry the job."""
        return self in (State.FAILED, State.TIMED_OUT)


@dataclass(eq=False)
class Job:
    """A job of an endpoint.

    Attributes:
        api_key: the key of its submission, for the pod that runs it.
        created, started, finished: seconds by the store's clock; None until then.
        output: the items of the output so far, as JSON. /stream has returned the first `streamed` of them.
        stored: the number of items that this claim has written to an external store.
        omitted_bytes: the size of an output that was too large to be read with the job.
        attempts: how often a pod has begun the job.
        again: whether it goes first in the queue, because its pod was lost.
        pod: the pod that runs it, or ran it last.
        token: the token of a gateway's claim on it, if there are several gateways.
    """

    id: str
    endpoint: EndpointKey
    submission: Submission
    api_key: str
    created: float
    started: float | None = None
    finished: float | None = None
    state: State = State.IN_QUEUE
    output: list[str] = field(default_factory=list)
    streamed: int = 0
    stored: int = 0
    omitted_bytes: int = 0
    error: str = ""
    attempts: int = 0
    again: bool = False
    pod: Address | None = None
    token: str = ""

    @property
    def output_size(self) -> int:
        """The number of characters of a completed job's output, or of bytes if the output was omitted; 0 for other
        jobs."""
        return self.omitted_bytes or sum(map(len, self.output)) if self.state is State.COMPLETED else 0

    @property
    def size(self) -> int:
        """The approximate number of bytes that the job takes in memory."""
        texts = (self.submission.input, self.submission.webhook, *self.output)
        return JOB_OVERHEAD + sum(map(memory_of, texts))


def new_job_id(*, sync: bool) -> str:
    """An ID in RunPod's form: a UUID, with the prefix `sync-` for /runsync, and a suffix like the suffix of a
    region."""
    return f"{'sync-' if sync else ''}{uuid.uuid4()}-f1"


def describe_state(job_id: str, state: State) -> dict[str, Any]:
    """The answer of /run, /cancel and /retry."""
    return {"id": job_id, "status": state}


def describe_job(job: Job) -> dict[str, Any]:
    """The answer of /status and /runsync. Times are in milliseconds. `output` is inserted as JSON."""
    described: dict[str, Any] = {}
    if job.started is not None:
        described["delayTime"] = _milliseconds(job.created, job.started)
    if job.started is not None and job.finished is not None:
        described["executionTime"] = _milliseconds(job.started, job.finished)
    described["id"] = job.id
    if job.error:
        described["error"] = job.error
    if job.state is State.COMPLETED:
        described["output"] = _raw(job.output)
    described["status"] = job.state
    if job.started is not None and job.pod and job.pod.name:
        described["workerId"] = job.pod.name
    return described


def describe_stream(
    state: State, items: Sequence[str], *, more: bool, error: str = "", first: int = 0
) -> dict[str, Any]:
    """The answer of /stream. A client reads until a final state, so the state is not final while there are more items.

    Args:
        more: whether there are more items.
        first: the index of the first item in the output.
    """
    places = enumerate(zip(items, _raw(items), strict=True), first)
    stream = [{"metrics": _metrics(item, place), "output": output} for place, (item, output) in places]
    described = {"status": State.IN_PROGRESS if more else state, "stream": stream}
    return {**described, "error": error} if error else described


def render(content: object) -> bytes:
    """Encode as JSON. Items of outputs are inserted unchanged."""
    return msgspec.json.encode(content)


class _Usage(msgspec.Struct):
    """Token counts, in the form of RunPod's items and in the form of OpenAI's API."""

    input: int | None = None
    output: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Counted(msgspec.Struct):
    usage: _Usage | None = None


_COUNTED = msgspec.json.Decoder(_Counted)


def _metrics(item: str, index: int) -> dict[str, Any]:
    """The metrics of an item of a stream, as in RunPod's documentation: its index, and its token counts if known.

    The load of the pod is unknown here.
    """
    metrics: dict[str, Any] = {"scenario": "stream", "stream_index": index}
    if not item.startswith("{") or len(item) > MAX_USAGE_SEARCH_LENGTH:
        return metrics
    with suppress(ValueError, RecursionError):
        if usage := _COUNTED.decode(item).usage:
            read = usage.prompt_tokens if usage.input is None else usage.input
            written = usage.completion_tokens if usage.output is None else usage.output
            metrics |= {"input_tokens": read or 0, "output_tokens": written or 0}
    return metrics


def _raw(items: Iterable[str]) -> list[msgspec.Raw]:
    return [msgspec.Raw(item.encode(errors="replace")) for item in items]


def _milliseconds(begin: float, end: float) -> int:
    return max(0, round((end - begin) * 1000))
