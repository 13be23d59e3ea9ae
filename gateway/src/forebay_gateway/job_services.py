"""The parts for jobs and batches put together: where they are, what gives them to pods, what tells of their end."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from redis import asyncio as valkey

from forebay_gateway.activator.pending_requests import Holds
from forebay_gateway.batches.document_store import MemoryShelf, Shelf
from forebay_gateway.batches.http_api import BatchesApi
from forebay_gateway.batches.processor import Worker
from forebay_gateway.batches.valkey_documents import ValkeyShelf
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import Keys
from forebay_gateway.fairness.pacing import Pace
from forebay_gateway.fairness.quotas import Shares
from forebay_gateway.jobs.dispatcher import Dispatcher
from forebay_gateway.jobs.executor import Running
from forebay_gateway.jobs.http_api import JobsApi
from forebay_gateway.jobs.job import Job
from forebay_gateway.jobs.key_cipher import Seal
from forebay_gateway.jobs.memory_store import Memory
from forebay_gateway.jobs.scripts import connect
from forebay_gateway.jobs.store import Store, insist
from forebay_gateway.jobs.valkey_store import Valkey
from forebay_gateway.jobs.webhooks import Webhooks
from forebay_gateway.metrics import JOB_DELAY, JOB_EXECUTION, JOBS, JOBS_WAITING
from forebay_kube.endpoint_key import EndpointKey

VALKEY_URL = "FOREBAY_GATEWAY_VALKEY_URL"
"""A variable, and no argument: it has a password in it."""


@dataclass(frozen=True)
class Jobs:
    """What answers requests for jobs and batches, and what does them."""

    api: JobsApi
    batches: BatchesApi
    worker: Worker
    dispatcher: Dispatcher
    running: Running

    async def drain(self) -> None:
        """Begin no more jobs, and wait until those that run are over."""
        self.worker.drain()
        self.dispatcher.drain()
        await self.running.ended()


def open_valkey() -> valkey.Redis:
    """A client of the Valkey whose URL is in the variable; it connects when it is asked. Ends the process where it is
    none."""
    try:
        return connect(os.environ.get(VALKEY_URL, ""))
    except ValueError as error:
        raise SystemExit(f"{VALKEY_URL} must be like redis://USER:PASSWORD@HOST:6379/0: {error}") from None


@asynccontextmanager
async def _open(
    parsed: argparse.Namespace, client: valkey.Redis | None, seal: Seal
) -> AsyncIterator[tuple[Store, Shelf]]:
    """Where jobs and files are kept: in Valkey where there is a client of it, or in memory."""
    share = parsed.namespace_share
    if client is None:
        yield Memory(parsed.jobs_bytes, share), MemoryShelf(parsed.files_bytes, share)
        return
    async with Valkey(client, seal, parsed.jobs_bytes, share) as store:
        shelf = ValkeyShelf(client, parsed.files_bytes, share)
        yield store, shelf
        await shelf.settle()


@asynccontextmanager
async def keep_jobs(
    parsed: argparse.Namespace,
    client: valkey.Redis | None,
    *,
    keys: Keys,
    directory: Directory,
    balancer: Balancer,
    holds: Holds,
    answers: Shares,
    pace: Pace,
) -> AsyncIterator[Jobs]:
    """Take jobs and batches and have pods do them until the context ends."""
    seal = Seal(keys.secret)
    async with (
        _open(parsed, client, seal) as (store, shelf),
        Webhooks(store, answers, pace, parsed.webhook_networks) as webhooks,
        Running(store, balancer, answers, pace) as running,
        Dispatcher(store, directory, balancer, holds, running) as dispatcher,
        Worker(shelf, store, seal, pace) as worker,
    ):
        api, batches = JobsApi(store, directory, answers, pace), BatchesApi(shelf, worker, answers, pace)
        jobs = Jobs(api, batches, worker, dispatcher, running)
        forgetting: set[asyncio.Task[None]] = set()

        def finished(job: Job) -> None:
            JOBS.labels(job.state).inc()
            if job.started is not None and job.finished is not None:
                JOB_DELAY.observe(job.started - job.created)
                JOB_EXECUTION.observe(job.finished - job.started)
            webhooks.deliver(job)

        async def forget(key: EndpointKey) -> None:
            await insist(partial(jobs.api.forget, key))
            await insist(partial(jobs.batches.forget, key))

        def dropped(key: EndpointKey) -> None:
            task = asyncio.create_task(forget(key))
            forgetting.add(task)
            task.add_done_callback(forgetting.discard)

        JOBS_WAITING.set_function(lambda: sum(each.waiting for each in store.backlog().values()))
        store.finished = finished
        holds.backlog, directory.dropped = store.backlog, dropped
        try:
            yield jobs
        finally:  # before what they use is closed
            for task in forgetting:
                task.cancel()
            await asyncio.gather(*forgetting, return_exceptions=True)
