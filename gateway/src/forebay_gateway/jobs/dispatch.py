"""Has pods run the jobs that are queued: one task for each endpoint that has some, and one for each job that runs."""

import asyncio
import logging
import socket
from collections import Counter

import aiohttp
from aiohappyeyeballs import AddrInfoType

from forebay_gateway.balance import Balancer
from forebay_gateway.directory import Directory
from forebay_gateway.endpoint import Address
from forebay_gateway.errors import Refused
from forebay_gateway.hold import Holds, wait_for_event
from forebay_gateway.jobs import runner
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.store import Full, Store
from forebay_gateway.names import Key
from forebay_gateway.relay import keep_alive

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""How many pods may go away over one job before it fails: it may be the job that ends them."""

PAUSE = 1.0
"""Seconds until pods that had no place are asked again."""

LATER = 5.0
"""Seconds until an endpoint that cannot start is looked at again; its jobs wait until their time to live is over."""


class Dispatcher:
    """For all endpoints. Use it as an async context manager; what runs when it ends is cut off."""

    def __init__(self, store: Store, directory: Directory, balancer: Balancer, holds: Holds) -> None:
        self._store = store
        self._directory = directory
        self._balancer = balancer
        self._holds = holds
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._at: Counter[Address] = Counter()
        self._ended = asyncio.Event()
        store.queued = self._look

    async def __aenter__(self) -> "Dispatcher":
        connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_open)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._store.queued = lambda _: None
        tasks = [*self._tasks.values(), *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    def stop(self, job: Job) -> None:
        """End the generation of a job that is over."""
        task = self._running.get(job)
        if task and task is not asyncio.current_task():
            task.cancel()

    def busy(self, pods: list[Address]) -> int:
        """How many of these pods run a job."""
        return sum(self._at[pod] > 0 for pod in pods)

    def _look(self, key: Key) -> None:
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._dispatch(key))

    async def _dispatch(self, key: Key) -> None:
        """Give jobs to pods until none is queued."""
        try:
            while self._store.counts(key).queued:
                pods = await self._wait_for_pods(key)
                self._ended.clear()
                at_once = endpoint.jobs if (endpoint := self._directory.endpoint(key)) else 0
                free = [pod for pod in pods if self._at[pod] < at_once]
                if not free:
                    await wait_for_event(self._ended, PAUSE)
                    continue
                pod = min(free, key=lambda each: self._at[each])
                if job := self._store.claim(key):
                    self._begin(job, pod)
        except Exception:
            logger.exception("giving jobs of %s/%s to pods", *key)
            asyncio.get_running_loop().call_later(LATER, self._look, key)
        finally:
            del self._tasks[key]

    async def _wait_for_pods(self, key: Key) -> list[Address]:
        """Pods that can be tried, after a start where none runs and a job may ask for one."""
        while True:
            if ready := self._balancer.usable(self._directory.ready(key)):
                return ready
            if self._directory.endpoint(key) is None:
                return []
            if self._store.counts(key).waiting:
                try:
                    return await self._holds.wait_for_pods(key)
                except Refused as refused:
                    logger.info("jobs of %s/%s wait: %s", *key, refused)
            with self._directory.changes(key) as changed:
                await wait_for_event(changed, LATER)

    def _begin(self, job: Job, pod: Address) -> None:
        """The pod has a job more from this moment on, so that no more are claimed than there is room for."""
        self._at[pod] += 1
        task = self._running[job] = asyncio.create_task(self._run(job, pod))
        task.add_done_callback(lambda _: self._end(job, pod))

    def _end(self, job: Job, pod: Address) -> None:
        self._at[pod] -= 1
        if not self._at[pod]:
            del self._at[pod]
        self._running.pop(job, None)
        self._ended.set()

    async def _run(self, job: Job, pod: Address) -> None:
        self._holds.begin(job.endpoint)
        try:
            with self._balancer.at(pod):
                async with asyncio.timeout(job.submission.timeout):
                    outcome = await runner.run(self._session, pod, job, lambda item: self._store.add_output(job, item))
            self._store.finish(job, outcome.state, outcome.error)
        except TimeoutError:
            self._store.finish(job, State.TIMED_OUT, f"The job took longer than {job.submission.timeout:g} s.")
        except Full:
            self._store.finish(job, State.FAILED, "The gateway has no place for more of the output (jobs_bytes).")
        except runner.Busy:
            await asyncio.sleep(PAUSE)  # it runs other gateways' jobs, or clients' own
            job.attempts -= 1
            self._store.put_back(job)
        except runner.Unreached:
            self._balancer.suspect(pod)
            job.attempts -= 1
            self._store.put_back(job)
        except runner.Gone as gone:
            self._balancer.suspect(pod)
            if job.attempts >= ATTEMPTS:
                self._store.finish(
                    job, State.FAILED, f"{ATTEMPTS} pods went away while they ran it, the last so: {gone}"
                )
            else:
                logger.info("job %s: %s; it goes to another pod", job.id, gone)
                self._store.put_back(job)
        except Exception:
            logger.exception("job %s failed", job.id)
            self._store.finish(job, State.FAILED, "The gateway had an error while it ran the job.")


def _open(address: AddrInfoType) -> socket.socket:
    """A socket whose other end the kernel looks after: a node that went away says nothing."""
    family, kind, protocol, *_ = address
    opened = socket.socket(family, kind, protocol)
    keep_alive(opened)
    return opened
