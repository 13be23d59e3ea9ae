"""Answers the requests of RunPod's job API. The key has been checked by then, and is one of this endpoint's."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from forebay_gateway.directory import Directory
from forebay_gateway.errors import ApiError, Refused, no_endpoint, retry_after
from forebay_gateway.jobs.dispatch import Dispatcher
from forebay_gateway.jobs.job import Job, State, new_id, render, take_stream, tell, tell_state
from forebay_gateway.jobs.operations import METHODS
from forebay_gateway.jobs.rates import Rates
from forebay_gateway.jobs.store import Full, Store
from forebay_gateway.jobs.submission import BadJob, read_submission, read_ttl, read_wait
from forebay_gateway.names import Key

STREAM_WAITS = 1.0
"""Seconds that /stream waits for something new; RunPod's clients ask again every second."""

KEEPS = "in the memory of one gateway: a restart loses jobs"
"""What /health says of the store."""


@dataclass(frozen=True)
class Asked:
    """One request: OPERATION or OPERATION/ID of an endpoint."""

    key: Key
    method: str
    operation: str
    job_id: str
    query: str
    api_key: str
    body: bytes


class JobsApi:
    """RunPod's operations on the jobs of this gateway."""

    def __init__(self, store: Store, dispatcher: Dispatcher, directory: Directory) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._directory = directory
        self._rates = Rates()
        self._operations: dict[str, Callable[[Asked], Awaitable[object]]] = {
            "run": self._run,
            "runsync": self._runsync,
            "status": self._status,
            "stream": self._stream,
            "cancel": self._cancel,
            "retry": self._retry,
            "purge-queue": self._purge,
            "health": self._health,
        }

    async def answer(self, asked: Asked) -> bytes:
        """The JSON that answers. Raises Refused."""
        key, operation = asked.key, asked.operation
        if asked.method not in METHODS[operation]:
            raise Refused(ApiError(405, f"/{operation} takes {' and '.join(sorted(METHODS[operation]))} only."))
        if self._directory.endpoint(key) is None:
            raise Refused(no_endpoint(self._directory.id_of(key)))
        later = self._rates.take(key, operation, len(self._directory.ready(key)))
        if later:
            raise Refused(ApiError(429, f"Too many requests to /{operation}.", headers=retry_after(later)))
        try:
            content = await self._operations[operation](asked)
        except BadJob as error:
            raise Refused(ApiError(error.status, str(error))) from error
        except Full:
            text = "The gateway keeps as many jobs as it can. Take results, or try again."
            raise Refused(ApiError(429, text, headers=retry_after(10))) from None
        return render(content).encode()

    def forget(self, key: Key) -> None:
        """The endpoint is gone."""
        self._store.forget(key)
        self._rates.forget(key)

    async def _run(self, asked: Asked) -> object:
        return tell_state(self._submit(asked, sync=False))

    async def _runsync(self, asked: Asked) -> object:
        wait = read_wait(asked.query)
        job = self._submit(asked, sync=True)
        await _until(lambda: job.state.final, job, wait)
        return tell(job)

    async def _status(self, asked: Asked) -> object:
        job = self._find(asked)
        ttl = read_ttl(asked.query)
        if ttl is not None and job.state.final:
            self._store.expire(job, ttl)
        return tell(job)

    async def _stream(self, asked: Asked) -> object:
        job = self._find(asked)
        await _until(lambda: job.state.final or job.told < len(job.output), job, STREAM_WAITS)
        return take_stream(job)

    async def _cancel(self, asked: Asked) -> object:
        job = self._find(asked)
        self._store.finish(job, State.CANCELLED)
        return tell_state(job)

    async def _retry(self, asked: Asked) -> object:
        job = self._find(asked)
        job.api_key = asked.api_key
        if not self._store.retry(job):
            raise BadJob(f"The job is {job.state}: only one that FAILED or TIMED_OUT can be tried again.")
        return tell_state(job)

    async def _purge(self, asked: Asked) -> object:
        return {"removed": self._store.purge(asked.key), "status": "completed"}

    async def _health(self, asked: Asked) -> object:
        counts, pods = self._store.counts(asked.key), self._directory.ready(asked.key)
        running = self._dispatcher.busy(pods)
        jobs = {
            "completed": counts.completed,
            "failed": counts.failed,
            "inProgress": counts.running,
            "inQueue": counts.queued,
            "retried": counts.retried,
        }
        workers = {
            "idle": len(pods) - running,
            "initializing": len(self._directory.unready(asked.key)),
            "ready": len(pods),
            "running": running,
        }
        return {"jobs": jobs, "workers": workers, "store": KEEPS}

    def _submit(self, asked: Asked, *, sync: bool) -> Job:
        submission = read_submission(asked.body, sync=sync)
        return self._store.submit(asked.key, new_id(sync=sync), submission, asked.api_key)

    def _find(self, asked: Asked) -> Job:
        if job := self._store.find(asked.key, asked.job_id):
            return job
        raise BadJob("There is no such job of this endpoint, or not any more.", 404)


async def _until(reached: Callable[[], bool], job: Job, seconds: float) -> None:
    """Wait until something is so of a job, but not for ever."""
    try:
        async with asyncio.timeout(seconds):
            while not reached():
                await job.changed.wait()
    except TimeoutError:
        return
