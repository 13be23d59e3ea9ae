"""Answers the requests of RunPod's job API. The handler calls it after it has checked the endpoint's key."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.worker_counts import count_workers
from forebay_gateway.event_waiting import wait_for_event
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Quota, Reservation
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.http import errors
from forebay_gateway.http.errors import Refused, no_endpoint, retry_after
from forebay_gateway.http.job_operations import OPERATION_METHODS
from forebay_gateway.jobs.job import Job, State, describe_job, describe_state, describe_stream, new_job_id, render
from forebay_gateway.jobs.rate_limits import RateLimits
from forebay_gateway.jobs.store import Full, JobStore, StreamedItems, Unavailable
from forebay_gateway.jobs.submission import BadJob, Submission, read_submission, read_ttl, read_wait
from forebay_gateway.settings import MIB
from forebay_kube.endpoint_key import EndpointKey
from forebay_protocol.errors import ApiError

T = TypeVar("T")

STREAM_WAIT_SECONDS = 1.0
"""Seconds that /stream waits for new output. RunPod's clients poll every second."""

MAX_STREAM_BYTES = 1 << 20
"""Bytes of output in one answer of /stream. A larger item is sent alone."""


@dataclass(frozen=True)
class JobApiCall:
    """One request: OPERATION or OPERATION/ID of an endpoint."""

    key: EndpointKey
    method: str
    operation: str
    job_id: str
    query: str
    api_key: str
    body: bytes | bytearray


class JobApi:
    """RunPod's operations on the jobs of this gateway."""

    def __init__(
        self, store: JobStore, directory: Directory, answers: Quota, scheduler: FairScheduler, rates: RateLimits
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._answers = answers
        self._directory = directory
        self._rates = rates
        self._operations: dict[str, Callable[[JobApiCall], Awaitable[object]]] = {
            "run": self._run,
            "runsync": self._runsync,
            "status": self._status,
            "status-sync": self._status_sync,
            "stream": self._stream,
            "cancel": self._cancel,
            "retry": self._retry,
            "purge-queue": self._purge,
            "health": self._health,
        }

    async def answer(self, call: JobApiCall) -> bytes:
        """Answer a request. Returns JSON. Raises Refused."""
        key, operation = call.key, call.operation
        allowed = sorted(OPERATION_METHODS[operation])
        method = (
            "GET" if call.method == "HEAD" and operation != "stream" else call.method
        )  # not /stream: it takes the items that it returns
        if method not in allowed:
            text = f"/{operation} takes {' and '.join(allowed)} only."
            raise Refused(ApiError(405, text, headers=(("allow", ", ".join(allowed)),)))
        if self._directory.endpoint(key) is None:
            raise Refused(no_endpoint(self._directory.id_of(key)))
        answer = await self._do(call)
        return answer if isinstance(answer, bytes) else render(answer)

    async def _do(self, call: JobApiCall) -> object:
        pods = len(self._directory.ready(call.key))
        try:
            async with self._rates.admit(call.key, call.operation, pods) as later:
                if later:
                    text = f"Too many requests to /{call.operation}."
                    raise Refused(ApiError(429, text, headers=retry_after(later)))
                return await self._operations[call.operation](call)
        except BadJob as error:
            raise Refused(ApiError(error.status, str(error))) from error
        except Full:
            text = "The job store has no room for more jobs. Fetch results, or try again."
            raise Refused(ApiError(429, text, headers=retry_after(10))) from None
        except Unavailable:
            text = "The store of the jobs does not answer. Try again."
            raise Refused(ApiError(503, text, headers=retry_after(5))) from None

    async def forget(self, key: EndpointKey) -> None:
        """Delete the jobs of an endpoint that no longer exists."""
        self._rates.forget(key)
        await self._store.forget(key)

    async def _run(self, call: JobApiCall) -> object:
        job_id = new_job_id(sync=False)
        await self._store.submit(call.key, job_id, await self._read(call, sync=False), call.api_key)
        return describe_state(job_id, State.IN_QUEUE)

    async def _runsync(self, call: JobApiCall) -> object:
        wait, submission, job_id = read_wait(call.query), await self._read(call, sync=True), new_job_id(sync=True)
        with self._store.changes(job_id) as changed:
            await self._store.submit(call.key, job_id, submission, call.api_key)
            job = _require(await self._store.wait_for_end(call.key, job_id, changed, wait))
        return await self._describe(job)

    async def _status(self, call: JobApiCall) -> object:
        ttl = read_ttl(call.query)
        job = await self._find(call.key, call.job_id)
        if ttl is not None:
            await self._store.expire(call.key, job.id, ttl)
        return await self._describe(job)

    async def _status_sync(self, call: JobApiCall) -> object:
        """Answer with the status once the job is over, or after `wait`. RunPod's JavaScript SDK calls it after
        /runsync."""
        wait = read_wait(call.query)
        with self._store.changes(call.job_id) as changed:
            job = await self._find(call.key, call.job_id)
            if not job.state.final:
                job = _require(await self._store.wait_for_end(call.key, call.job_id, changed, wait))
        return await self._describe(job)

    async def _stream(self, call: JobApiCall) -> object:
        with self._store.changes(call.job_id) as changed:
            streamed, answer = await self._take_stream(call)
            if not streamed.items and not streamed.larger and not streamed.state.final:
                await wait_for_event(changed, STREAM_WAIT_SECONDS)
                streamed, answer = await self._take_stream(call)
        if streamed.larger:
            async with self._store.locks.of(call.key[0]):
                _, answer = await self._take_stream(call, streamed.larger)
        return answer

    async def _cancel(self, call: JobApiCall) -> object:
        job = _require(await self._store.cancel(call.key, call.job_id))
        return describe_state(job.id, job.state)

    async def _retry(self, call: JobApiCall) -> object:
        state = _require(await self._store.retry(call.key, call.job_id, call.api_key))
        if not state.retryable:
            raise BadJob(f"The job is {state}: only one that FAILED or TIMED_OUT can be tried again.")
        return describe_state(call.job_id, State.IN_QUEUE)

    async def _purge(self, call: JobApiCall) -> object:
        return {"removed": await self._store.purge(call.key), "status": "completed"}

    async def _health(self, call: JobApiCall) -> object:
        counts, pods = await self._store.counts(call.key), self._directory.ready(call.key)
        running = min(counts.pods, len(pods))
        jobs = {
            "completed": counts.completed,
            "failed": counts.failed,
            "inProgress": counts.running,
            "inQueue": counts.queued,
            "retried": counts.retried,
        }
        endpoint, unready = self._directory.endpoint(call.key), len(self._directory.unready(call.key))
        workers = count_workers(endpoint, ready=len(pods), unready=unready, running=running)
        return {"jobs": jobs, "workers": workers, "store": self._store.location}

    async def _read(self, call: JobApiCall, *, sync: bool) -> Submission:
        """Read the submission in the body. Raises BadJob."""
        async with self._scheduler.exclusive_step(call.key[0]) if len(call.body) > MIB else nullcontext():
            return read_submission(call.body, sync=sync)

    async def _find(self, key: EndpointKey, job_id: str) -> Job:
        return _require(await self._store.find(key, job_id))

    async def _describe(self, job: Job) -> bytes:
        async with self._store.output_lock(job):
            self._check_room(job.endpoint, job.output_size)
            whole = _require(await self._store.whole(job))
            async with self._scheduler.exclusive_step(job.endpoint[0]) if job.output_size > MIB else nullcontext():
                return render(describe_job(whole))

    def _check_room(self, key: EndpointKey, size: int) -> None:
        """Check the budget before an answer of this size is read. Raises Refused."""
        if size > UNCOUNTED_BYTES and not self._answers.has_room(key[0], size):
            raise Refused(errors.TOO_MANY_WAITING)

    async def _read_error(self, call: JobApiCall) -> str:
        """The job's error; "" if it cannot be read now. The items that were taken must be sent anyway."""
        try:
            job = await self._store.find(call.key, call.job_id, max_bytes=0)
        except Unavailable:
            return ""
        return job.error if job else ""

    async def _take_stream(self, call: JobApiCall, max_bytes: int = MAX_STREAM_BYTES) -> tuple[StreamedItems, bytes]:
        """Take the next items. Returns them and the JSON of the answer. Raises Refused.

        Items that were taken are not returned again, so memory for them is reserved first.
        """
        with Reservation(self._answers, call.key[0]) as reserved:
            if not reserved.resize(max_bytes):
                raise Refused(errors.TOO_MANY_WAITING)
            streamed = _require(await self._store.take_stream(call.key, call.job_id, max_bytes))
            error = ""
            if (
                streamed.state.retryable and not streamed.more
            ):  # it failed, and a client that only streams learns it here
                error = await self._read_error(call)
            described = describe_stream(
                streamed.state, streamed.items, more=streamed.more, error=error, first=streamed.first
            )
            return streamed, render(described)


def _require(what: T | None) -> T:
    if what is None:
        raise BadJob("This endpoint has no such job, or no longer has it.", 404)
    return what
