"""Wires the parts for jobs and batches: stores, dispatcher, executor, batch processor, webhooks and APIs. `app` opens
it."""

import argparse
import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from redis import asyncio as valkey

from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.batches.bucket import Bucket, BucketSettings
from forebay_gateway.batches.bucket_reaper import reap_forever
from forebay_gateway.batches.document_store import DocumentStore, MemoryDocumentStore
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.http_api import BatchApi
from forebay_gateway.batches.processor import BatchProcessor
from forebay_gateway.batches.upload import max_upload_seconds
from forebay_gateway.batches.valkey_documents import ValkeyDocumentStore
from forebay_gateway.endpoints.backlog import Backlog
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.jobs.dispatcher import Dispatcher
from forebay_gateway.jobs.egress_proxies import EgressProxies, read_proxies
from forebay_gateway.jobs.executor import JobExecutor
from forebay_gateway.jobs.http_api import JobApi
from forebay_gateway.jobs.job import Job
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.rate_limits import MemoryRateLimits, RateLimits
from forebay_gateway.jobs.receivers import Receivers
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_gateway.jobs.store import JobStore, retry_until_available
from forebay_gateway.jobs.valkey_rate_limits import ValkeyRateLimits
from forebay_gateway.jobs.valkey_store import ValkeyJobStore
from forebay_gateway.jobs.webhooks import Webhooks
from forebay_gateway.metrics import JOB_DELAY, JOB_EXECUTION, JOBS, JOBS_WAITING
from forebay_kube.endpoint_key import EndpointKey

VALKEY_URL = "FOREBAY_GATEWAY_VALKEY_URL"
"""A variable and not an argument, because it contains a password."""


@dataclass(frozen=True)
class JobServices:
    """The APIs of jobs and batches, and the parts that run them."""

    store: JobStore
    api: JobApi
    batches: BatchApi
    worker: BatchProcessor
    dispatcher: Dispatcher
    executor: JobExecutor
    webhooks: Webhooks
    _forgetting: set[asyncio.Task[None]] = field(default_factory=set)

    def backlog(self) -> Mapping[EndpointKey, Backlog]:
        """The jobs of each endpoint now."""
        return self.store.backlog()

    def forget(self, key: EndpointKey) -> None:
        """Delete the jobs and files of a deleted endpoint, with retries while the store does not answer."""
        task = asyncio.create_task(self._forget(key))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def drain(self) -> None:
        """Start no more jobs. Wait until the running ones are over and their webhooks are delivered."""
        self.worker.drain()
        self.dispatcher.drain()
        await self.executor.wait_until_idle()
        await self.webhooks.drain()

    async def close(self) -> None:
        """Cancel pending deletions. The store deletes these jobs and files when they expire."""
        for task in self._forgetting:
            task.cancel()
        await asyncio.gather(*self._forgetting, return_exceptions=True)

    async def _forget(self, key: EndpointKey) -> None:
        await retry_until_available(partial(self.api.forget, key))
        await retry_until_available(partial(self.batches.forget, key))


def open_valkey() -> valkey.Redis:
    """A client for the URL in the variable. It connects at its first call. Ends the process if the URL is
    invalid."""
    try:
        return connect_valkey(os.environ.get(VALKEY_URL, ""))
    except ValueError as error:
        raise SystemExit(f"{VALKEY_URL} must be like redis://USER:PASSWORD@HOST:6379/0: {error}") from None


@asynccontextmanager
async def _open(
    parsed: argparse.Namespace, client: valkey.Redis | None, cipher: KeyCipher
) -> AsyncIterator[tuple[JobStore, RateLimits, DocumentStore]]:
    """Open the stores of jobs, rate limits and documents: in Valkey if there is a client, else in memory."""
    share, budgets = parsed.namespace_share, (parsed.files_bytes, parsed.namespace_share, parsed.bucket_bytes)
    if client is None:
        yield MemoryJobStore(parsed.jobs_bytes, share), MemoryRateLimits(), MemoryDocumentStore(*budgets)
        return
    async with ValkeyJobStore(client, cipher, parsed.jobs_bytes, share) as store, ValkeyRateLimits(client) as rates:
        documents = ValkeyDocumentStore(client, *budgets)
        yield store, rates, documents
        await documents.wait_until_idle()


def open_proxies() -> EgressProxies:
    """Read the HTTP proxies from the environment. Ends the process if they are invalid."""
    try:
        return read_proxies(os.environ)
    except ValueError as error:
        raise SystemExit(f"the proxies are not configured correctly: {error}") from None


def open_bucket(parsed: argparse.Namespace, secret: Callable[[], bytes]) -> Bucket | None:
    """Open the bucket for files. Returns None if no bucket is configured. Ends the process if the settings are invalid.

    Each installation has its own folder, with a name from its secret, so that it cannot delete the objects of
    another one. Until the operator has created the secret, the folder is unknown, and the bucket raises Unavailable.
    """
    if not parsed.files_bucket:
        return None
    settings = BucketSettings(
        parsed.files_bucket,
        parsed.files_endpoint,
        parsed.files_region,
        parsed.files_prefix.strip("/"),
        path_style=parsed.files_style == "path",
        seconds=parsed.bucket_seconds,
    )
    try:
        return Bucket(settings, partial(_find_folder, secret))
    except ValueError as error:
        raise SystemExit(f"the bucket for files is not configured correctly: {error}") from None


def _find_folder(secret: Callable[[], bytes]) -> str | None:
    """The name of this installation's folder; None before its secret is known."""
    known = secret()
    return hashlib.sha256(b"forebay: folder of files " + known).hexdigest()[:16] if known else None


@asynccontextmanager
async def _reaping(files: FileStore, upload_seconds: float) -> AsyncIterator[None]:
    """Delete orphaned objects in the bucket until the context ends. `upload_seconds`: the maximum time of an upload."""
    if files.bucket is None:
        yield
        return
    task = asyncio.create_task(reap_forever(files, files.bucket, upload_seconds))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def open_job_services(
    parsed: argparse.Namespace,
    client: valkey.Redis | None,
    *,
    keys: KeyAuthorizer,
    directory: Directory,
    balancer: Balancer,
    activator: Activator,
    answers: Quota,
    scheduler: FairScheduler,
) -> AsyncIterator[JobServices]:
    """Open the services for jobs and batches, and run them until the context ends."""
    cipher = KeyCipher(keys.secret)
    receivers = Receivers(parsed.webhook_networks, parsed.webhook_namespaces)
    bucket = open_bucket(parsed, keys.secret)
    upload_seconds = max_upload_seconds(parsed.file_bytes, parsed.body_seconds, parsed.bucket_seconds)
    async with (
        _open(parsed, client, cipher) as (store, rates, documents),
        _reaping(files := FileStore(documents, bucket), upload_seconds),
        Webhooks(
            store, answers, scheduler, receivers, share=parsed.namespace_share, proxies=open_proxies()
        ) as webhooks,
        JobExecutor(store, balancer, answers, scheduler) as executor,
        Dispatcher(store, directory, balancer, activator, executor) as dispatcher,
        BatchProcessor(files, store, cipher, scheduler, answers, max_line_bytes=parsed.body_bytes) as worker,
    ):
        api = JobApi(store, directory, answers, scheduler, rates)
        batches = BatchApi(
            files,
            worker,
            answers,
            scheduler,
            max_file_bytes=parsed.file_bytes,
            upload_seconds=upload_seconds,
        )
        services = JobServices(store, api, batches, worker, dispatcher, executor, webhooks)
        store.finished.add(_count)
        directory.endpoint_removed.add(services.forget)
        JOBS_WAITING.set_function(lambda: sum(each.waiting for each in store.backlog().values()))
        try:
            yield services
        finally:  # before the parts that it uses are closed
            await services.close()


def _count(job: Job) -> None:
    """Count a job that has come to its end."""
    JOBS.labels(job.state).inc()
    if job.started is not None and job.finished is not None:
        JOB_DELAY.observe(job.started - job.created)
        JOB_EXECUTION.observe(job.finished - job.started)
