"""The jobs of this gateway, in its memory: what is here ends with the process.

One event loop uses it, so each call is whole. A job is claimed once, reaches one final state, and is forgotten when its
result has been kept long enough, or at the end of its time to live.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.submission import Submission
from forebay_gateway.names import Key


class Full(Exception):
    """There is no place for another job, or for more of a job's output."""


@dataclass
class Counts:
    """Of one endpoint, since the start of this process; `waiting` of those in the queue may start pods."""

    queued: int = 0
    waiting: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0


@dataclass
class _Endpoint:
    jobs: dict[str, Job] = field(default_factory=dict)
    queue: deque[Job] = field(default_factory=deque)
    low: deque[Job] = field(default_factory=deque)
    counts: Counts = field(default_factory=Counts)


class Store:
    """`most_bytes` bounds the inputs and outputs of all jobs together."""

    def __init__(self, most_bytes: int) -> None:
        self.queued: Callable[[Key], None] = lambda _: None
        """Called when an endpoint's queue got a job."""
        self.finished: Callable[[Job], None] = lambda _: None
        """Called when a job has come to its end."""
        self._most_bytes = most_bytes
        self._bytes = 0
        self._endpoints: dict[Key, _Endpoint] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}

    def submit(self, key: Key, job_id: str, submission: Submission, api_key: str) -> Job:
        """Take a job in. Raises Full."""
        job = Job(job_id, key, submission, api_key, self._now())
        if self._bytes + job.size > self._most_bytes:
            raise Full
        self._bytes += job.size
        self._endpoints.setdefault(key, _Endpoint()).jobs[job_id] = job
        self.expire(job, submission.ttl)
        self._enqueue(job)
        return job

    def find(self, key: Key, job_id: str) -> Job | None:
        endpoint = self._endpoints.get(key)
        return endpoint.jobs.get(job_id) if endpoint else None

    def counts(self, key: Key) -> Counts:
        return self._endpoints[key].counts if key in self._endpoints else Counts()

    def waiting(self) -> dict[Key, int]:
        """How many jobs in their queues may start pods, by endpoint."""
        return {key: each.counts.waiting for key, each in self._endpoints.items() if each.counts.waiting}

    def claim(self, key: Key) -> Job | None:
        """The next job, which is in progress from now on; None where none is queued."""
        endpoint = self._endpoints.get(key)
        if endpoint is None or not (endpoint.queue or endpoint.low):
            return None
        job = (endpoint.queue or endpoint.low)[0]
        self._dequeue(job)
        endpoint.counts.running += 1
        job.state, job.started, job.attempts = State.IN_PROGRESS, self._now(), job.attempts + 1
        _tell(job)
        return job

    def put_back(self, job: Job) -> None:
        """The pod that had begun a job is gone, or had no place: it goes to the front of the queue."""
        if job.state is State.IN_PROGRESS:
            self._endpoints[job.endpoint].counts.running -= 1
            self._forget_output(job)
            job.state, job.started = State.IN_QUEUE, None
            self._enqueue(job, first=True)

    def add_output(self, job: Job, item: str) -> None:
        """The pod gave an item of a job's output, as JSON. Raises Full."""
        if job.state is State.IN_PROGRESS:
            if self._bytes + len(item) > self._most_bytes:
                raise Full
            job.output.append(item)
            self._bytes += len(item)
            _tell(job)

    def finish(self, job: Job, state: State, error: str = "") -> bool:
        """Bring a job to its end; whether that was still to be done."""
        if job.state.final:
            return False
        counts = self._endpoints[job.endpoint].counts
        if job.state is State.IN_QUEUE:
            self._dequeue(job)
        else:
            counts.running -= 1
        counts.completed += state is State.COMPLETED
        counts.failed += state.retryable
        job.state, job.error, job.finished = state, error, self._now()
        self.expire(job, min(job.submission.kept, job.created + job.submission.ttl - self._now()))
        _tell(job)
        self.finished(job)
        return True

    def retry(self, job: Job) -> bool:
        """Queue a job that failed anew; whether it had."""
        if not job.state.retryable:
            return False
        self._endpoints[job.endpoint].counts.retried += 1
        self._forget_output(job)
        job.state, job.error, job.created = State.IN_QUEUE, "", self._now()
        job.started = job.finished = None
        job.attempts = 0
        self.expire(job, job.submission.ttl)
        self._enqueue(job)
        return True

    def purge(self, key: Key) -> int:
        """Forget all queued jobs of an endpoint; how many there were."""
        endpoint = self._endpoints.get(key, _Endpoint())
        queued = [*endpoint.queue, *endpoint.low]
        for job in queued:
            self.finish(job, State.CANCELLED)
            self._drop(job)
        return len(queued)

    def forget(self, key: Key) -> None:
        """The endpoint is gone, and so are its jobs."""
        for job in list(self._endpoints.get(key, _Endpoint()).jobs.values()):
            self.finish(job, State.CANCELLED)
            self._drop(job)
        self._endpoints.pop(key, None)

    def expire(self, job: Job, seconds: float) -> None:
        """Have nothing left of a job so long from now."""
        if timer := self._expiries.pop(job.id, None):
            timer.cancel()
        self._expiries[job.id] = asyncio.get_running_loop().call_later(max(0.0, seconds), self._drop, job)

    def _drop(self, job: Job) -> None:
        self.finish(job, State.TIMED_OUT, "The job's time to live is over.")
        if timer := self._expiries.pop(job.id, None):
            timer.cancel()
        if self._endpoints[job.endpoint].jobs.pop(job.id, None):
            self._bytes -= job.size

    def _enqueue(self, job: Job, *, first: bool = False) -> None:
        endpoint = self._endpoints[job.endpoint]
        queue = endpoint.low if job.submission.low else endpoint.queue
        (queue.appendleft if first else queue.append)(job)
        endpoint.counts.queued += 1
        endpoint.counts.waiting += not job.submission.low
        _tell(job)
        self.queued(job.endpoint)

    def _dequeue(self, job: Job) -> None:
        endpoint = self._endpoints[job.endpoint]
        (endpoint.low if job.submission.low else endpoint.queue).remove(job)
        endpoint.counts.queued -= 1
        endpoint.counts.waiting -= not job.submission.low

    def _forget_output(self, job: Job) -> None:
        self._bytes -= sum(map(len, job.output))
        job.output.clear()
        job.told = 0

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _tell(job: Job) -> None:
    job.changed.set()
    job.changed = asyncio.Event()
