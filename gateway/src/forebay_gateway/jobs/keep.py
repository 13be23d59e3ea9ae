"""The parts of the job API put together: a store, what gives its jobs to pods, and what tells of their end."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from forebay_gateway.balance import Balancer
from forebay_gateway.directory import Directory
from forebay_gateway.hold import Holds
from forebay_gateway.jobs.api import JobsApi
from forebay_gateway.jobs.dispatch import Dispatcher
from forebay_gateway.jobs.job import Job
from forebay_gateway.jobs.memory import Memory
from forebay_gateway.jobs.running import Running
from forebay_gateway.jobs.seal import Seal
from forebay_gateway.jobs.steps import connect
from forebay_gateway.jobs.store import Store
from forebay_gateway.jobs.valkey import Valkey
from forebay_gateway.jobs.webhooks import Webhooks
from forebay_gateway.keys import Keys
from forebay_gateway.metrics import JOB_DELAY, JOB_EXECUTION, JOBS, JOBS_WAITING
from forebay_gateway.names import Key

VALKEY_URL = "FOREBAY_GATEWAY_VALKEY_URL"
"""A variable, and no argument: it has a password in it."""


@dataclass(frozen=True)
class Jobs:
    """What answers requests for jobs, and what runs them."""

    api: JobsApi
    dispatcher: Dispatcher
    running: Running

    async def drain(self) -> None:
        """Begin no more jobs, and wait until those that run are over."""
        self.dispatcher.drain()
        await self.running.ended()


@asynccontextmanager
async def open_store(parsed: argparse.Namespace, keys: Keys) -> AsyncIterator[Store]:
    """The store that the arguments ask for. Ends the process where Valkey's URL is none."""
    if parsed.jobs == "memory":
        yield Memory(parsed.jobs_bytes)
        return
    try:
        client = connect(os.environ.get(VALKEY_URL, ""))
    except ValueError as error:
        raise SystemExit(f"{VALKEY_URL} must be like redis://USER:PASSWORD@HOST:6379/0: {error}") from None
    async with Valkey(client, Seal(keys.secret), parsed.jobs_bytes) as store:
        yield store


@asynccontextmanager
async def keep_jobs(
    store: Store, directory: Directory, balancer: Balancer, holds: Holds, parsed: argparse.Namespace
) -> AsyncIterator[Jobs]:
    """Take jobs and have pods run them until the context ends."""
    async with (
        Webhooks(parsed.webhook_networks) as webhooks,
        Running(store, balancer) as running,
        Dispatcher(store, directory, balancer, holds, running) as dispatcher,
    ):
        api = JobsApi(store, directory)
        forgetting: set[asyncio.Task[None]] = set()

        def finished(job: Job) -> None:
            JOBS.labels(job.state).inc()
            if job.started is not None and job.finished is not None:
                JOB_DELAY.observe(job.started - job.created)
                JOB_EXECUTION.observe(job.finished - job.started)
            webhooks.deliver(job)

        def dropped(key: Key) -> None:
            task = asyncio.create_task(api.forget(key))
            forgetting.add(task)
            task.add_done_callback(forgetting.discard)

        JOBS_WAITING.set_function(lambda: sum(store.waiting().values()))
        store.finished = finished
        holds.queued, directory.dropped = store.waiting, dropped
        yield Jobs(api, dispatcher, running)
