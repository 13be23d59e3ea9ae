"""Assigns queued jobs to pods: one task for each endpoint with queued jobs. The job services run it."""

import asyncio
import logging

from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.event_waiting import wait_for_event
from forebay_gateway.http.errors import Refused
from forebay_gateway.jobs.executor import JobExecutor
from forebay_gateway.jobs.job import Job
from forebay_gateway.jobs.store import JobStore, Unavailable
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)

DISPATCH_RETRY_INTERVAL = 1.0
"""Seconds until the next attempt if no pod, no free slot at a pod, or no store is available."""


class Dispatcher:
    """The dispatcher of all endpoints. Use it as an async context manager."""

    def __init__(
        self, store: JobStore, directory: Directory, balancer: Balancer, activator: Activator, executor: JobExecutor
    ) -> None:
        self._store = store
        self._directory = directory
        self._balancer = balancer
        self._activator = activator
        self._executor = executor
        self._tasks: dict[EndpointKey, asyncio.Task[None]] = {}
        self._changed: dict[EndpointKey, asyncio.Event] = {}
        self._draining = False
        store.queued.add(self._wake)
        executor.ended.add(self._wake)

    async def __aenter__(self) -> "Dispatcher":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drain()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def drain(self) -> None:
        """Claim no more jobs."""
        self._draining = True
        for task in self._tasks.values():
            task.cancel()

    def _wake(self, key: EndpointKey) -> None:
        """Dispatch an endpoint that may have queued jobs or a pod with a free slot."""
        if key in self._changed:
            self._changed[key].set()
        elif not self._draining:
            self._changed[key] = asyncio.Event()
            self._tasks[key] = asyncio.create_task(self._dispatch(key))

    async def _dispatch(self, key: EndpointKey) -> None:
        """Assign jobs to pods until the queue is empty."""
        changed = self._changed[key]
        try:
            while True:
                pods = await self._wait_for_pods(key)
                changed.clear()
                at_once = endpoint.jobs if (endpoint := self._directory.endpoint(key)) else 0
                job, left = await self._store.claim(key, self._executor.accepting_pods(pods), at_once)
                if job:
                    self._begin(job)
                if not left and not changed.is_set():
                    break
                if not job:
                    await wait_for_event(changed, DISPATCH_RETRY_INTERVAL)
        except Unavailable:
            asyncio.get_running_loop().call_later(DISPATCH_RETRY_INTERVAL, self._wake, key)
        except Exception:
            logger.exception("could not send jobs of %s/%s to pods", *key)
            asyncio.get_running_loop().call_later(DISPATCH_RETRY_INTERVAL, self._wake, key)
        finally:
            del self._tasks[key], self._changed[key]

    def _begin(self, job: Job) -> None:
        self._activator.begin(job.endpoint)
        self._executor.begin(job)

    async def _wait_for_pods(self, key: EndpointKey) -> list[Address]:
        """Wait for pods that can be tried. Start a pod if a job may do so. Returns [] if no job is queued."""
        while True:
            if ready := self._balancer.usable(self._directory.ready(key)):
                return ready
            counts = await self._store.counts(key)
            if not counts.queued or self._directory.endpoint(key) is None:
                return []
            if counts.waiting:
                try:
                    if pods := await self._start(key):
                        return pods
                except Refused as refused:
                    logger.info("jobs of %s/%s wait: %s", *key, refused)
            with self._directory.changes(key) as changed:
                await wait_for_event(changed, DISPATCH_RETRY_INTERVAL)

    async def _start(self, key: EndpointKey) -> list[Address]:
        """Start an endpoint and wait for its pods. Returns [] once no job waits for them any more. Raises Refused."""
        starting = asyncio.ensure_future(self._activator.wait_for_pods(key))
        try:
            while True:
                await asyncio.wait({starting}, timeout=DISPATCH_RETRY_INTERVAL)
                if starting.done():
                    return starting.result()
                if not (await self._store.counts(key)).waiting:
                    return []
        finally:
            starting.cancel()
