"""The job store in the memory of one gateway. Its jobs are lost with the process.

Only one event loop uses it, so each call is atomic.
"""

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from forebay_gateway.endpoints.backlog import Backlog
from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Quota, memory_of
from forebay_gateway.jobs.job import JOB_OVERHEAD, Job, State
from forebay_gateway.jobs.store import STREAM_ITEM_BYTES, Counts, Delivery, Full, JobStore, Lost, StreamedItems
from forebay_gateway.jobs.submission import Submission
from forebay_kube.endpoint_key import EndpointKey


@dataclass
class _EndpointJobs:
    jobs: dict[str, Job] = field(default_factory=dict)
    again: deque[Job] = field(default_factory=deque)
    normal: deque[Job] = field(default_factory=deque)
    low: deque[Job] = field(default_factory=deque)
    counts: Counts = field(default_factory=Counts)
    pods: Counter[Address] = field(default_factory=Counter)

    def queue_of(self, job: Job) -> deque[Job]:
        if job.again:
            return self.again
        return self.low if job.submission.low else self.normal


@dataclass(eq=False)
class _Webhook:
    """A webhook that is not delivered yet. If `dropped`, the store keeps the job only for the webhook."""

    job: Job
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    tries: int = 0
    dropped: bool = False


class MemoryJobStore(JobStore):
    """A job store in memory.

    `max_bytes` bounds the inputs and outputs of all jobs together. `share` is a namespace's part of it (quotas.Quota).
    """

    location = "in the memory of one gateway: a restart loses jobs"
    outlives_gateway = False

    def __init__(self, max_bytes: int, share: float = 0.5) -> None:
        super().__init__()
        self._bytes = Quota(max_bytes, share)
        self._endpoints: dict[EndpointKey, _EndpointJobs] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._webhooks: dict[str, _Webhook] = {}
        self._due: dict[EndpointKey, deque[_Webhook]] = {}

    @property
    def max_input_bytes(self) -> int:
        return self._bytes.max_per_tenant - JOB_OVERHEAD

    async def submit(self, key: EndpointKey, job_id: str, submission: Submission, api_key: str) -> None:
        job = Job(job_id, key, submission, api_key, self._now())
        self._reserve(job, job.size)
        self._endpoints.setdefault(key, _EndpointJobs()).jobs[job_id] = job
        self._expire(job, submission.ttl)
        self._enqueue(job)

    async def find(self, key: EndpointKey, job_id: str, max_bytes: int = UNCOUNTED_BYTES) -> Job | None:
        endpoint = self._endpoints.get(key)
        return endpoint.jobs.get(job_id) if endpoint else None

    async def take_stream(self, key: EndpointKey, job_id: str, max_bytes: int) -> StreamedItems | None:
        job = await self.find(key, job_id)
        if job is None:
            return None
        items: list[str] = []
        size = 0
        for item in islice(job.output, job.streamed, None):
            if not items and len(item) > max_bytes:
                return StreamedItems(job.state, True, [], len(item))
            size += len(item) + STREAM_ITEM_BYTES
            if items and size > max_bytes:
                break
            items.append(item)
        first, job.streamed = job.streamed, job.streamed + len(items)
        return StreamedItems(job.state, job.streamed < len(job.output), items, first=first)

    async def counts(self, key: EndpointKey) -> Counts:
        return self._endpoints[key].counts if key in self._endpoints else Counts()

    def backlog(self) -> Mapping[EndpointKey, Backlog]:
        counts_by_key = {key: each.counts for key, each in self._endpoints.items()}
        return {key: counts for key, counts in counts_by_key.items() if counts.queued or counts.running}

    async def claim(self, key: EndpointKey, pods: Sequence[Address], at_once: int) -> tuple[Job | None, int]:
        endpoint = self._endpoints.get(key, _EndpointJobs())
        free = [pod for pod in pods if endpoint.pods[pod] < at_once]
        queue = endpoint.again or endpoint.normal or endpoint.low
        if not free or not queue:
            return None, endpoint.counts.queued
        job = queue[0]
        self._dequeue(job)
        job.again = False
        job.pod = min(free, key=lambda each: endpoint.pods[each])
        endpoint.pods[job.pod] += 1
        endpoint.counts.running += 1
        endpoint.counts.pods = len(endpoint.pods)
        job.state, job.started, job.attempts = State.IN_PROGRESS, self._now(), job.attempts + 1
        return job, endpoint.counts.queued

    async def release(self, job: Job) -> None:
        await self.requeue(job, blamed=True)

    async def requeue(self, job: Job, *, blamed: bool) -> None:
        if job.state is State.IN_PROGRESS:
            self._release_pod(job)
            self._forget_output(job)
            job.attempts -= not blamed
            job.state, job.started, job.again = State.IN_QUEUE, None, True
            self._enqueue(job)

    async def add_output(self, job: Job, items: Sequence[str]) -> None:
        if job.state is not State.IN_PROGRESS:
            raise Lost
        self._reserve(job, sum(map(memory_of, items)))
        job.output += items
        self._notify_watchers(job.id)

    async def finish(self, job: Job, state: State, error: str = "", items: Sequence[str] = ()) -> None:
        await self.add_output(job, items)
        self._finish(job, state, error)

    async def cancel(self, key: EndpointKey, job_id: str) -> Job | None:
        job = await self.find(key, job_id)
        if job:
            self._finish(job, State.CANCELLED)
        return job

    async def retry(self, key: EndpointKey, job_id: str, api_key: str) -> State | None:
        job = await self.find(key, job_id)
        if job is None or not job.state.retryable:
            return job.state if job else None
        state_before = job.state
        self._webhooks.pop(job.id, None)  # the job is no longer over
        self._endpoints[key].counts.retried += 1
        self._forget_output(job)
        job.state, job.error, job.created, job.api_key = State.IN_QUEUE, "", self._now(), api_key
        job.started = job.finished = None
        job.attempts = 0
        self._expire(job, job.submission.ttl)
        self._enqueue(job)
        return state_before

    async def purge(self, key: EndpointKey) -> int:
        endpoint = self._endpoints.get(key, _EndpointJobs())
        queued = [*endpoint.again, *endpoint.normal, *endpoint.low]
        for job in queued:
            self._finish(job, State.CANCELLED)
            self._drop(job)
        return len(queued)

    async def forget(self, key: EndpointKey) -> None:
        for job in list(self._endpoints.get(key, _EndpointJobs()).jobs.values()):
            self._finish(job, State.CANCELLED)
            self._drop(job)
        self._endpoints.pop(key, None)

    async def expire(self, key: EndpointKey, job_id: str, seconds: float) -> None:
        job = await self.find(key, job_id)
        if job and job.state.final:
            self._expire(job, min(seconds, job.created + job.submission.ttl - self._now()))

    async def claim_delivery(self, key: EndpointKey) -> tuple[Delivery | None, int]:
        due = self._due.get(key, deque())
        while due:
            webhook = due.popleft()
            if self._webhooks.get(webhook.job.id) is webhook:
                return Delivery(webhook.job, webhook.tries, webhook.token), len(due)
        self._due.pop(key, None)
        return None, 0

    async def read_delivery(self, delivery: Delivery) -> Job | None:
        return delivery.job if self._webhook_of(delivery) else None

    async def postpone_delivery(self, delivery: Delivery, seconds: float, *, tried: bool) -> None:
        if webhook := self._webhook_of(delivery):
            webhook.tries += tried
            asyncio.get_running_loop().call_later(seconds, self._schedule, webhook)

    async def end_delivery(self, delivery: Delivery) -> None:
        if webhook := self._webhook_of(delivery):
            del self._webhooks[webhook.job.id]
            if webhook.dropped:
                self._bytes.release(webhook.job.endpoint[0], webhook.job.size)

    def _webhook_of(self, delivery: Delivery) -> _Webhook | None:
        """The webhook of a delivery; None if the job has been retried since."""
        webhook = self._webhooks.get(delivery.job.id)
        return webhook if webhook and webhook.token == delivery.token else None

    def _schedule(self, webhook: _Webhook) -> None:
        """Make a webhook due."""
        self._due.setdefault(webhook.job.endpoint, deque()).append(webhook)
        self.deliverable.notify(webhook.job.endpoint)

    def _reserve(self, job: Job, size: int) -> None:
        if not self._bytes.try_acquire(job.endpoint[0], size):
            raise Full

    def _finish(self, job: Job, state: State, error: str = "") -> None:
        if job.state.final:
            return
        counts = self._endpoints[job.endpoint].counts
        if job.state is State.IN_QUEUE:
            self._dequeue(job)
        else:
            self._release_pod(job)
        counts.completed += state is State.COMPLETED
        counts.failed += state.retryable
        job.state, job.error, job.finished = state, error, self._now()
        self._expire(job, min(job.submission.retention, job.created + job.submission.ttl - self._now()))
        self._notify_watchers(job.id)
        if job.submission.webhook:
            webhook = self._webhooks[job.id] = _Webhook(job)
            self._due.setdefault(job.endpoint, deque()).append(webhook)
        self._notify_finished(job)
        self.claim_lost.notify(job.id, job.token)

    def _release_pod(self, job: Job) -> None:
        endpoint = self._endpoints[job.endpoint]
        if job.pod:
            endpoint.pods[job.pod] -= 1
            endpoint.pods += Counter()  # drops counts of 0
        endpoint.counts.running -= 1
        endpoint.counts.pods = len(endpoint.pods)

    def _expire(self, job: Job, seconds: float) -> None:
        """Delete a job in `seconds` from now."""
        if timer := self._expiries.pop(job.id, None):
            timer.cancel()
        self._expiries[job.id] = asyncio.get_running_loop().call_later(max(0.0, seconds), self._drop, job)

    def _drop(self, job: Job) -> None:
        self._finish(job, State.TIMED_OUT, "The job's time to live has expired.")
        if timer := self._expiries.pop(job.id, None):
            timer.cancel()
        if self._endpoints[job.endpoint].jobs.pop(job.id, None):
            if webhook := self._webhooks.get(job.id):
                webhook.dropped = True
            else:
                self._bytes.release(job.endpoint[0], job.size)

    def _enqueue(self, job: Job) -> None:
        endpoint = self._endpoints[job.endpoint]
        endpoint.queue_of(job).append(job)
        endpoint.counts.queued += 1
        endpoint.counts.waiting += not job.submission.low
        self.queued.notify(job.endpoint)

    def _dequeue(self, job: Job) -> None:
        endpoint = self._endpoints[job.endpoint]
        endpoint.queue_of(job).remove(job)
        endpoint.counts.queued -= 1
        endpoint.counts.waiting -= not job.submission.low

    def _forget_output(self, job: Job) -> None:
        self._bytes.release(job.endpoint[0], sum(map(memory_of, job.output)))
        job.output.clear()
        job.streamed = 0

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
