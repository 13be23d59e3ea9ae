"""The interface of job stores: in the memory of one gateway (memory_store.py), or in Valkey for many (valkey_store.py).

One gateway claims a job. The job reaches one final state. It is deleted when its result expires, or at the end of
its time to live.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from forebay_gateway.endpoints.backlog import Backlog
from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.event_waiting import wait_for_event
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, TenantLocks
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.submission import Submission
from forebay_gateway.observers import Observers
from forebay_kube.endpoint_key import EndpointKey

T = TypeVar("T")

ATTEMPTS = 5
"""The number of lost pods after which a job fails. The job itself may cause the crashes."""

JOB_RECHECK_INTERVAL = 5.0
"""Seconds after which a waiting client's job is read again. The message about its end can be lost with a connection."""

STREAM_ITEM_BYTES = 200
"""Bytes that /stream adds to the size of each item, so that one answer does not have too many items."""

STORE_RETRY_INTERVAL = 1.0
"""Seconds after which `retry_until_available` calls a store again that did not answer."""


class Full(Exception):
    """The store has no room for another job, or for more of a job's output."""


class Lost(Exception):
    """The job is over, or another gateway has claimed it. The store ignores the caller's further work for this job."""


class Unavailable(Exception):
    """The store does not answer."""


@dataclass
class Counts(Backlog):
    """Jobs of one endpoint.

    Attributes:
        completed, failed, retried: since the store was created.
        pods: the number of pods that run a job now.
    """

    completed: int = 0
    failed: int = 0
    retried: int = 0
    pods: int = 0


@dataclass(frozen=True)
class Delivery:
    """The delivery of a job's end to its webhook.

    Attributes:
        job: the ended job. A large output may be omitted.
        tries: the number of earlier attempts.
        token: the token of a gateway's claim on it, if there are several gateways.
    """

    job: Job
    tries: int
    token: str = ""


@dataclass(frozen=True)
class StreamedItems:
    """Items of an output for /stream. Each item is taken once.

    Attributes:
        more: whether there are more items.
        items: the items as JSON.
        larger: the size of the next item, if this item alone exceeds the limit of the call; else 0.
        first: the index of the first item in the output.
    """

    state: State
    more: bool
    items: list[str]
    larger: int = 0
    first: int = 0


class JobStore(ABC):
    """A store of jobs. Every method may raise Unavailable."""

    location: ClassVar[str]
    """The place of the jobs, for a person."""

    outlives_gateway: ClassVar[bool] = True
    """Whether another gateway continues the jobs of this one after its end."""

    def __init__(self) -> None:
        self.queued = Observers[[EndpointKey]]()
        """Is notified when an endpoint's queue may have jobs."""
        self.finished = Observers[[Job]]()
        """Is notified once for each job that this gateway has ended."""
        self.claim_lost = Observers[[str, str]]()
        """Is notified with the job ID and the token of a claim that this gateway may have lost."""
        self.deliverable = Observers[[EndpointKey]]()
        """Is notified when webhooks of an endpoint's jobs may be due."""
        self.locks = TenantLocks()
        """Locks so that each namespace has one large output in memory at a time, until it is written or counted."""
        self._watchers: dict[str, set[asyncio.Event]] = {}

    @property
    @abstractmethod
    def max_input_bytes(self) -> int:
        """The most bytes that the input of a job may take in memory, if its namespace has no other job."""

    @property
    def trouble(self) -> str:
        """Why the store does not answer, as a text for a person; "" while the store answers."""
        return ""

    @contextmanager
    def changes(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when a job ends or has more output, while the context lasts."""
        event = asyncio.Event()
        self._watchers.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[job_id].discard(event)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    async def wait_for_end(self, key: EndpointKey, job_id: str, changed: asyncio.Event, seconds: float) -> Job | None:
        """Wait until a job is over, for up to `seconds`. Returns the job as it then is, None if it no longer exists.

        `changed` comes from `changes`. It is awaited before the job is first read.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while True:
            await wait_for_event(changed, min(JOB_RECHECK_INTERVAL, deadline - clock()))
            changed.clear()
            job = await self.find(key, job_id)
            if job is None or job.state.final or clock() >= deadline:
                return job

    def output_lock(self, job: Job) -> AbstractAsyncContextManager[object]:
        """A context for code that copies a job's output in memory. It waits only if the output is large."""
        return self.locks.of(job.endpoint[0]) if job.output_size > UNCOUNTED_BYTES else nullcontext()

    async def whole(self, job: Job) -> Job | None:
        """The job with its whole output, also a large one that `find` omits; None if it no longer exists."""
        return await self.find(job.endpoint, job.id, job.omitted_bytes) if job.omitted_bytes else job

    def _notify_finished(self, job: Job) -> None:
        """Notify the observers of a job that this gateway has ended."""
        self.finished.notify(job)
        if job.submission.webhook:
            self.deliverable.notify(job.endpoint)

    def _notify_watchers(self, job_id: str) -> None:
        for event in self._watchers.get(job_id, ()):
            event.set()

    @abstractmethod
    async def submit(self, key: EndpointKey, job_id: str, submission: Submission, api_key: str) -> None:
        """Queue a new job. Raises Full."""

    @abstractmethod
    async def find(self, key: EndpointKey, job_id: str, max_bytes: int = UNCOUNTED_BYTES) -> Job | None:
        """Look up a job of an endpoint. Returns None if there is none.

        The job has its output only if it is completed and the output has at most `max_bytes`. A store in memory always
        returns the output.
        """

    @abstractmethod
    async def take_stream(self, key: EndpointKey, job_id: str, max_bytes: int) -> StreamedItems | None:
        """Take the output that was not taken before, up to `max_bytes`. Returns None if there is no such job.

        If the next item alone is larger, nothing is taken, and `larger` of the result is the size of this item.
        """

    @abstractmethod
    async def counts(self, key: EndpointKey) -> Counts:
        """The numbers of the endpoint's jobs, by state."""

    @abstractmethod
    def backlog(self) -> Mapping[EndpointKey, Backlog]:
        """The endpoints that have queued or running jobs. Every gateway returns the same numbers, which are at most a
        second old."""

    @abstractmethod
    async def claim(self, key: EndpointKey, pods: Sequence[Address], at_once: int) -> tuple[Job | None, int]:
        """Claim the next job for the pod with the fewest jobs. Returns the job, and the number of further queued jobs.

        Returns None for the job if the queue is empty, or if each pod has `at_once` jobs.
        """

    @abstractmethod
    async def release(self, job: Job) -> None:
        """Give up the claim on a job. If the job has not ended and is not queued again, another gateway may claim
        it."""

    @abstractmethod
    async def requeue(self, job: Job, *, blamed: bool) -> None:
        """Queue a claimed job again, before the others, because its pod was busy or was lost.

        `blamed`: the job may be the cause, so this attempt is counted.
        """

    @abstractmethod
    async def add_output(self, job: Job, items: Sequence[str]) -> None:
        """Store items of a claimed job's output, as JSON. Raises Full and Lost."""

    @abstractmethod
    async def finish(self, job: Job, state: State, error: str = "", items: Sequence[str] = ()) -> None:
        """Bring a claimed job to its end, with the last items of its output. Raises Full and Lost."""

    @abstractmethod
    async def cancel(self, key: EndpointKey, job_id: str) -> Job | None:
        """Cancel a job unless it is over. Returns the job, or None if there is no such job."""

    @abstractmethod
    async def retry(self, key: EndpointKey, job_id: str, api_key: str) -> State | None:
        """Queue a failed job again. Returns its previous state, or None if there is no such job."""

    @abstractmethod
    async def purge(self, key: EndpointKey) -> int:
        """Delete all queued jobs of an endpoint. Returns the number of deleted jobs."""

    @abstractmethod
    async def forget(self, key: EndpointKey) -> None:
        """Delete all jobs of an endpoint that no longer exists."""

    @abstractmethod
    async def expire(self, key: EndpointKey, job_id: str, seconds: float) -> None:
        """Keep the result of a job for `seconds` from now, but not past its time to live."""

    @abstractmethod
    async def claim_delivery(self, key: EndpointKey) -> tuple[Delivery | None, int]:
        """Claim the webhook that has been due longest. Returns its delivery, and the number of further due webhooks.

        Returns None for the delivery if no webhook is due.

        A job is kept until its delivery ends, but `find` no longer returns it after its time.
        """

    @abstractmethod
    async def read_delivery(self, delivery: Delivery) -> Job | None:
        """The job with its whole output; None if it no longer exists, or was retried and is not over."""

    @abstractmethod
    async def postpone_delivery(self, delivery: Delivery, seconds: float, *, tried: bool) -> None:
        """Make a claimed webhook due again in `seconds`. `tried`: whether this attempt reached the receiver or tried
        to."""

    @abstractmethod
    async def end_delivery(self, delivery: Delivery) -> None:
        """End a claimed delivery, whether it succeeded or not."""


async def retry_until_available(step: Callable[[], Awaitable[T]]) -> T:
    """Call the step until the store answers. Returns its result."""
    while True:
        try:
            return await step()
        except Unavailable:
            await asyncio.sleep(STORE_RETRY_INTERVAL)
