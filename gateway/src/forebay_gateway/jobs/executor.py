"""Runs claimed jobs at pods: one task for each job. The dispatcher calls it."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import aclosing, suppress
from functools import partial

import aiohttp
from aiohappyeyeballs import AddrInfoType

from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.quotas import Quota, Reservation
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.http.sockets import SOCKET_BUFFER, keep_alive
from forebay_gateway.jobs import pod_client
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.store import ATTEMPTS, Full, JobStore, Lost, Unavailable, retry_until_available
from forebay_gateway.metrics import JOBS_RUNNING, REQUEUED
from forebay_gateway.observers import Observers
from forebay_kube.endpoint_key import EndpointKey

READ_BUFFER = 16 << 10
"""Bytes of a pod's answer that are buffered. Reading pauses above it."""

logger = logging.getLogger(__name__)


class JobExecutor:
    """Runs jobs. Use it as an async context manager; jobs that still run at its end go back to the queue.

    `answers` bounds the output that is received and not stored yet.
    """

    def __init__(self, store: JobStore, balancer: Balancer, answers: Quota, scheduler: FairScheduler) -> None:
        self._store = store
        self._scheduler = scheduler
        self._answers = answers
        self._balancer = balancer
        self._accepting = Balancer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._generating: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.ended = Observers[[EndpointKey]]()
        """A job at a pod of an endpoint has ended."""
        store.claim_lost.add(self.stop)

    async def __aenter__(self) -> "JobExecutor":
        connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_open)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=READ_BUFFER)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self.wait_until_idle()
        await self._session.close()

    async def wait_until_idle(self) -> None:
        """Wait until no job runs here."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def accepting_pods(self, pods: Sequence[Address]) -> list[Address]:
        """The pods that have not refused a job in the last seconds."""
        return self._accepting.usable(pods)

    def begin(self, job: Job) -> None:
        """Run a claimed job at its pod."""
        task = asyncio.create_task(self._run(job))
        self._tasks.add(task)
        self._generating[job.id, job.token] = task
        task.add_done_callback(lambda _: self._end(job, task))

    def stop(self, job_id: str, token: str) -> None:
        """Stop the generation of a job that is over, or that another gateway has claimed."""
        if task := self._generating.pop((job_id, token), None):
            task.cancel()

    def _end(self, job: Job, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.ended.notify(job.endpoint)

    async def _run(self, job: Job) -> None:
        try:
            with Reservation(self._answers, job.endpoint[0]) as received:
                await self._generate(job, received)
        except asyncio.CancelledError:
            if not self._stop_tracking(job):
                raise
            logger.info("job %s goes back to the queue because this gateway stops", job.id)
            with suppress(Unavailable):  # the claim then expires without heartbeats
                await self._store.requeue(job, blamed=False)
        except Full:
            await self._finish(job, State.FAILED, "There is no room for more of the output (jobs_bytes).")
        except Lost:
            logger.info("job %s has ended, or another gateway has it", job.id)
        except Exception:
            logger.exception("job %s failed", job.id)
            await self._finish(job, State.FAILED, "The gateway had an error while it ran the job.")
        finally:
            self._stop_tracking(job)
            await self._store.release(job)

    async def _generate(self, job: Job, received: Reservation) -> None:
        """Run a job at its pod and finish it. `received` counts its output that is not stored yet.

        Raises Full and Lost.
        """
        assert job.pod, "each job is claimed for a pod"
        await self._scheduler.wait_for_turn(job.endpoint[0])
        try:
            with self._balancer.at(job.pod), JOBS_RUNNING.track_inprogress():
                async with asyncio.timeout(job.submission.timeout):
                    outcome, items = await self._store_output(job, job.pod, received)
        except TimeoutError:
            await self._finish(job, State.TIMED_OUT, f"The job took longer than {job.submission.timeout:g} s.")
        except pod_client.Busy:  # the pod also runs jobs that clients send to it directly
            self._accepting.suspect(job.pod)
            await self._requeue(job, "busy", blamed=False)
        except pod_client.PodUnreachable:
            self._balancer.suspect(job.pod)
            await self._requeue(job, "unreached", blamed=False)
        except pod_client.PodLost as gone:
            self._balancer.suspect(job.pod)
            if job.attempts < ATTEMPTS:
                logger.info("job %s: %s; it goes to another pod", job.id, gone)
                await self._requeue(job, "gone", blamed=True)
            else:
                text = f"{ATTEMPTS} pods were lost while they ran the job, the last one by: {gone}"
                await self._finish(job, State.FAILED, text)
        else:
            await self._finish(job, outcome.state, outcome.error, items)

    async def _store_output(
        self, job: Job, pod: Address, received: Reservation
    ) -> tuple[pod_client.Outcome, Sequence[str]]:
        """Store the output as it arrives. Returns the outcome and the last items."""
        async with aclosing(pod_client.run(self._session, pod, job, received, self._scheduler)) as steps:
            async for items, outcome in steps:
                if outcome:
                    return outcome, items
                await retry_until_available(partial(self._store.add_output, job, items))
        raise pod_client.PodLost("the answer was interrupted")

    async def _finish(self, job: Job, state: State, error: str = "", items: Sequence[str] = ()) -> None:
        self._stop_tracking(job)
        try:
            await retry_until_available(partial(self._store.finish, job, state, error, items))
        except Lost:
            logger.info("job %s had ended, or another gateway had it, when it was %s", job.id, state)

    async def _requeue(self, job: Job, why: str, *, blamed: bool) -> None:
        self._stop_tracking(job)
        REQUEUED.labels(why).inc()
        await retry_until_available(partial(self._store.requeue, job, blamed=blamed))

    def _stop_tracking(self, job: Job) -> bool:
        """Forget the task of a job, so that `stop` no longer cancels it. Returns whether it was known."""
        return self._generating.pop((job.id, job.token), None) is not None


def _open(address: AddrInfoType) -> socket.socket:
    """Open a socket with TCP keepalive, because a node that disappears sends nothing."""
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    keep_alive(opened)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
    return opened
