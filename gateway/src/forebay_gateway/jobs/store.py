"""The interface of job stores: in the memory of one gateway (memory_store.py), or in Valkey for many (valkey_store.py).

A job is claimed by one gateway, reaches one final state, and is forgotten when its result has been kept long enough, or
at the end of its time to live.
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
"""How many pods may go away over one job before it fails: it may be the job that ends them."""

JOB_RECHECK_INTERVAL = 5.0
"""Seconds after which a job that is waited for is looked at again: word of its end can be lost with a connection."""

STREAM_ITEM_BYTES = 200
"""Bytes that an item of an output counts in /stream besides its own, so that one answer has not too many."""

STORE_RETRY_INTERVAL = 1.0
"""Seconds after which a store that did not answer is asked again by who insists."""


class Full(Exception):
    """There is no place for another job, or for more of a job's output."""


class Lost(Exception):
    """The job is over, or another gateway has it: what this one did for it counts no more."""


class Unavailable(Exception):
    """The store does not answer."""


@dataclass
class Counts(Backlog):
    """Jobs of one endpoint.

    Attributes:
        completed, failed, retried: since the store began.
        pods: how many run a job now.
    """

    completed: int = 0
    failed: int = 0
    retried: int = 0
    pods: int = 0


@dataclass(frozen=True)
class Delivery:
    """A job's end that its webhook is to be told.

    Attributes:
        job: as it ended; a large output may be left out.
        tries: how often the receiver was asked before.
        token: of the claim that a gateway has on it, where there are several.
    """

    job: Job
    tries: int
    token: str = ""


@dataclass(frozen=True)
class StreamedItems:
    """What /stream tells: items of the output as JSON, each told once, and whether there are more. `larger`: bytes of
    the next item, where that is more than was asked for. `first`: the place of the first item in the output."""

    state: State
    more: bool
    items: list[str]
    larger: int = 0
    first: int = 0


class JobStore(ABC):
    """All of it may raise Unavailable."""

    location: ClassVar[str]
    """Where the jobs are, for a person."""

    outlives_gateway: ClassVar[bool] = True
    """Whether another gateway goes on with what this one leaves."""

    def __init__(self) -> None:
        self.queued = Observers[[EndpointKey]]()
        """An endpoint's queue may have jobs."""
        self.finished = Observers[[Job]]()
        """A job has come to its end, and this gateway ended it: once for each job."""
        self.claim_lost = Observers[[str, str]]()
        """This gateway has no claim any more on the job of this ID by the claim of this token, if it had one."""
        self.deliverable = Observers[[EndpointKey]]()
        """Webhooks of an endpoint's jobs may be due."""
        self.turns = TenantLocks()
        """One large output at a time is in memory for each namespace, until it is written or counts elsewhere."""
        self._watchers: dict[str, set[asyncio.Event]] = {}

    @property
    @abstractmethod
    def max_input_bytes(self) -> int:
        """Bytes of memory that the input of a job may take where a namespace has no other job."""

    @property
    def trouble(self) -> str:
        """Why the store does not answer, for a person; "" while it does."""
        return ""

    @contextmanager
    def changes(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when a job is over or has more output, for as long as the context lasts."""
        event = asyncio.Event()
        self._watchers.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[job_id].discard(event)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    async def wait_for_end(self, key: EndpointKey, job_id: str, changed: asyncio.Event, seconds: float) -> Job | None:
        """The job when it is over, or as it is after so long; None where it is gone. `changed` is of `changes`, and is
        waited for before the first look."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while True:
            await wait_for_event(changed, min(JOB_RECHECK_INTERVAL, deadline - clock()))
            changed.clear()
            job = await self.find(key, job_id)
            if job is None or job.state.final or clock() >= deadline:
                return job

    def turn(self, job: Job) -> AbstractAsyncContextManager[object]:
        """To be held by what has a job's output in memory once more; it waits only where that is large."""
        return self.turns.of(job.endpoint[0]) if job.output_size > UNCOUNTED_BYTES else nullcontext()

    async def whole(self, job: Job) -> Job | None:
        """A job with its output, however large that is; None where it is gone by now."""
        return await self.find(job.endpoint, job.id, job.omitted_bytes) if job.omitted_bytes else job

    def _notify_finished(self, job: Job) -> None:
        """This gateway ended a job."""
        self.finished.notify(job)
        if job.submission.webhook:
            self.deliverable.notify(job.endpoint)

    def _notify_watchers(self, job_id: str) -> None:
        for event in self._watchers.get(job_id, ()):
            event.set()

    @abstractmethod
    async def submit(self, key: EndpointKey, job_id: str, submission: Submission, api_key: str) -> None:
        """Take a job in. Raises Full."""

    @abstractmethod
    async def find(self, key: EndpointKey, job_id: str, max_bytes: int = UNCOUNTED_BYTES) -> Job | None:
        """Look up a job of an endpoint. Returns None where there is none.

        The output comes with it only where the job is completed and the output has at most `max_bytes`. A store in
        memory always returns it.
        """

    @abstractmethod
    async def take_stream(self, key: EndpointKey, job_id: str, max_bytes: int) -> StreamedItems | None:
        """Take the output that was not taken before, up to `max_bytes`. Returns None where there is no such job.

        Where the next item alone is larger, nothing is taken, and `larger` of the result has its size.
        """

    @abstractmethod
    async def counts(self, key: EndpointKey) -> Counts: ...

    @abstractmethod
    def backlog(self) -> Mapping[EndpointKey, Backlog]:
        """The endpoints that have jobs to do; the same from every gateway, and at most a second old."""

    @abstractmethod
    async def claim(self, key: EndpointKey, pods: Sequence[Address], at_once: int) -> tuple[Job | None, int]:
        """The next job, in progress from now on at that of the pods which has the fewest, and how many more are queued.

        No job where none is queued, or each pod has `at_once`.
        """

    @abstractmethod
    async def release(self, job: Job) -> None:
        """Nothing more is done here for a claimed job: where it is neither over nor back, another may have it."""

    @abstractmethod
    async def requeue(self, job: Job, *, blamed: bool) -> None:
        """The pod had no place, or is gone: the job goes first. It is `blamed` where it may be why."""

    @abstractmethod
    async def add_output(self, job: Job, items: Sequence[str]) -> None:
        """The pod gave items of a claimed job's output, as JSON. Raises Full and Lost."""

    @abstractmethod
    async def finish(self, job: Job, state: State, error: str = "", items: Sequence[str] = ()) -> None:
        """Bring a claimed job to its end, with the last items of its output. Raises Full and Lost."""

    @abstractmethod
    async def cancel(self, key: EndpointKey, job_id: str) -> Job | None:
        """End a job where that is still to be done, and return it."""

    @abstractmethod
    async def retry(self, key: EndpointKey, job_id: str, api_key: str) -> State | None:
        """Queue a job that failed anew; the state in which it was found."""

    @abstractmethod
    async def purge(self, key: EndpointKey) -> int:
        """Forget all queued jobs of an endpoint; how many there were."""

    @abstractmethod
    async def forget(self, key: EndpointKey) -> None:
        """The endpoint is gone, and so are its jobs."""

    @abstractmethod
    async def expire(self, key: EndpointKey, job_id: str, seconds: float) -> None:
        """Keep the result of a job for so long from now, but not past its time to live."""

    @abstractmethod
    async def claim_delivery(self, key: EndpointKey) -> tuple[Delivery | None, int]:
        """The webhook of an endpoint that is due longest, if any, for this gateway alone; and how many more are due.

        A job is kept until its webhook is done with, but is not found any more once its time is over.
        """

    @abstractmethod
    async def read_delivery(self, delivery: Delivery) -> Job | None:
        """The job with its output, however large that is; None where it is gone, or not over any more."""

    @abstractmethod
    async def postpone_delivery(self, delivery: Delivery, seconds: float, *, tried: bool) -> None:
        """A claimed webhook is due again so long from now. `tried`: its receiver was asked."""

    @abstractmethod
    async def end_delivery(self, delivery: Delivery) -> None:
        """A claimed webhook is done with."""


async def retry_until_available(step: Callable[[], Awaitable[T]]) -> T:
    """What the step returns, however long the store does not answer."""
    while True:
        try:
            return await step()
        except Unavailable:
            await asyncio.sleep(STORE_RETRY_INTERVAL)
