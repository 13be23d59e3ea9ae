"""Processes batches: each line of an input file becomes a job, and its result becomes a line of an output file.

Any gateway may process any batch. A lease lets one gateway at a time process a batch. Results are stored, so another
gateway can continue: a line with a result is not run again, and a submitted job is found by its ID, which follows from
its line.
"""

import asyncio
import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress

from forebay_gateway.batches import objects
from forebay_gateway.batches.bucket import ContentMissing
from forebay_gateway.batches.bucket_results import BucketResults
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.input_files import InputFiles
from forebay_gateway.batches.jsonl import (
    MAX_LINE_BYTES,
    BatchRequests,
    LineBounds,
    Request,
    batch_error,
    job_input,
    render_result,
)
from forebay_gateway.batches.objects import ApiObject
from forebay_gateway.batches.results import DocumentResults, Results
from forebay_gateway.event_waiting import wait_for_event
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Quota
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.jobs.job import Job
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.store import JOB_RECHECK_INTERVAL, Full, JobStore, Lost, Unavailable
from forebay_gateway.jobs.submission import DAY, Submission
from forebay_gateway.metrics import BATCHES
from forebay_gateway.settings import MIB
from forebay_kube.endpoint_key import EndpointKey, format_key, parse_key

logger = logging.getLogger(__name__)

JOBS_PER_BATCH = 64
"""Jobs of one batch that are queued or run. Further lines wait in the file, so that they do not delay other jobs."""

BATCHES_AT_ONCE = 32
"""Batches of one namespace that a gateway processes concurrently; half as many of one endpoint. Further ones wait."""

MAX_RUNNING_BATCHES = 2 * BATCHES_AT_ONCE
"""Batches that a gateway processes concurrently. Each can take 2 MiB. A namespace can have half of the places that
other namespaces do not use, and at least one."""

CHECKED_PER_POLL = 50
"""The most waiting batches that one poll checks for their end."""

BATCH_LEASE = 10.0
BATCH_POLL_INTERVAL = 1.0
"""Seconds between two polls for open batches, and between two writes of a batch's progress."""

RETURNED_LEASE = 0.001
"""Seconds of a lease that ends immediately. A gateway takes such a lease to release a batch."""

BUCKET_WAIT = 3600.0
"""Seconds after the expiry of a batch that needs the bucket. Until then the batch is left to gateways with a bucket."""

MIN_BATCH_RETRY_DELAY, MAX_BATCH_RETRY_DELAY = 2.0, 60.0
"""Seconds until a retry of a batch whose store or bucket did not answer. The delay doubles each time."""

BATCH_GONE = "gone"
"""The result of a batch whose endpoint no longer exists."""

ALL_ENDPOINTS: EndpointKey = ("", "")
"""The key of the documents that list the open batches of all endpoints."""

BATCH_JOB_RETENTION, BATCH_JOB_TIMEOUT = 1800.0, 600.0
"""Seconds for which a job's result is kept, and for which it may run, as with /run."""


class BatchProcessor:
    """Processes batches. Use it as an async context manager."""

    def __init__(
        self,
        files: FileStore,
        store: JobStore,
        cipher: KeyCipher,
        scheduler: FairScheduler,
        answers: Quota,
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self._files = files
        self._documents = files.documents
        self._scheduler = scheduler
        self._store = store
        self._cipher = cipher
        self._tasks: dict[str, asyncio.Task[None]] = {}
        bounds = LineBounds(line=max_line_bytes, input=store.max_input_bytes)
        self._inputs = InputFiles(files, scheduler, answers, bounds)
        self._places = Quota(MAX_RUNNING_BATCHES, share=0.5, floor=1)
        self._running: Counter[EndpointKey] = Counter()
        """The number of running batches of each endpoint."""
        self._pauses: dict[str, tuple[float, float]] = {}
        """Batches that wait for a store: the end of the pause by the loop's clock, and its length."""

    async def __aenter__(self) -> "BatchProcessor":
        self._poll_task = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drain()
        await asyncio.gather(self._poll_task, *self._tasks.values(), return_exceptions=True)

    def drain(self) -> None:
        """Stop all batches. Another gateway, or this one after its restart, continues them."""
        for task in (self._poll_task, *self._tasks.values()):
            task.cancel()

    async def submit(self, key: EndpointKey, batch: ApiObject, api_key: str) -> None:
        """Store a new batch and mark it as open. Raises Full."""
        await self._documents.put(
            key, "key", batch["id"], self._cipher.encrypt(api_key, _owner(key, batch["id"])), objects.BATCH_RETENTION
        )
        await self._documents.put(key, "batch", batch["id"], json.dumps(batch), objects.BATCH_RETENTION, bounded=False)
        await self._documents.put(
            ALL_ENDPOINTS, "open", batch["id"], format_key(key), objects.BATCH_RETENTION, bounded=False
        )

    async def _poll(self) -> None:
        while True:
            waiting: list[tuple[EndpointKey, str]] = []
            try:
                await self._documents.expire_documents()
                opened = await self._documents.all(ALL_ENDPOINTS, "open")
                self._pauses = {name: pause for name, pause in self._pauses.items() if name in opened}
                now = asyncio.get_running_loop().time()
                for batch_id, name in opened.items():
                    key = parse_key(name)
                    if batch_id in self._tasks or now < self._pauses.get(batch_id, (0.0, 0.0))[0]:
                        continue
                    if self._is_full(key):
                        waiting.append((key, batch_id))
                    else:
                        await self._begin(key, batch_id)
                for key, batch_id in random.sample(waiting, min(CHECKED_PER_POLL, len(waiting))):
                    if await self._is_over(key, batch_id):
                        await self._begin(key, batch_id)
            except Unavailable:
                logger.info("the batches cannot be read")
            except Exception:
                logger.exception("could not list batches")
            await asyncio.sleep(BATCH_POLL_INTERVAL)

    def _is_full(self, key: EndpointKey) -> bool:
        """Whether the namespace or the endpoint has its maximum of running batches."""
        return not self._places.has_room(key[0], 1) or self._running[key] >= BATCHES_AT_ONCE // 2

    async def _is_over(self, key: EndpointKey, batch_id: str) -> bool:
        """Whether a waiting batch is cancelled, expired or gone. Then the batch only has to be closed."""
        if await self._documents.get(key, "cancel", batch_id) is not None:
            return True
        record = json.loads(await self._documents.get(key, "batch", batch_id) or "{}")
        return bool(time.time() >= record.get("expires_at", 0))

    async def _begin(self, key: EndpointKey, batch_id: str) -> None:
        if not await self._documents.lease(batch_id, BATCH_LEASE):
            return
        if await self._is_for_others(key, batch_id):
            await self._documents.lease(batch_id, RETURNED_LEASE)
            return
        self._places.release(key[0], -1)  # always: a batch that is over needs no free place
        self._running[key] += 1
        self._tasks[batch_id] = asyncio.create_task(self._process(key, batch_id))

    async def _is_for_others(self, key: EndpointKey, batch_id: str) -> bool:
        """Whether a batch needs a bucket, and this gateway has no bucket yet, or no bucket any more."""
        if self._files.bucket:
            return False
        batch = json.loads(await self._documents.get(key, "batch", batch_id) or "{}")
        if time.time() >= batch.get("expires_at", 0) + BUCKET_WAIT:
            return False
        return await self._files.lacks_bucket(key, batch)

    async def _process(self, key: EndpointKey, batch_id: str) -> None:
        """Process a batch as long as this gateway holds its lease."""
        batch = _Batch(self._inputs, self._store, self._cipher, self._scheduler, key=key, batch_id=batch_id)
        doing, began = asyncio.create_task(batch.run()), asyncio.get_running_loop().time()
        try:
            while not doing.done() and await self._documents.lease(batch_id, BATCH_LEASE):
                await asyncio.wait({doing}, timeout=BATCH_POLL_INTERVAL)
            if doing.done():
                doing.result()
        except Unavailable:
            logger.info("batch %s waits: the store does not answer", batch_id)
            now = asyncio.get_running_loop().time()
            if now - began > MAX_BATCH_RETRY_DELAY:  # it ran well for some time
                self._pauses.pop(batch_id, None)
            pause = min(2 * self._pauses.get(batch_id, (0.0, MIN_BATCH_RETRY_DELAY / 2))[1], MAX_BATCH_RETRY_DELAY)
            self._pauses[batch_id] = now + pause, pause
        except Lost:
            logger.info("another gateway has taken over batch %s", batch_id)
        except Exception:
            logger.exception("batch %s", batch_id)
        finally:
            doing.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await doing
            del self._tasks[batch_id]
            self._places.release(key[0])
            self._running[key] -= 1
            self._running += Counter()  # drops counts of 0


class _Batch:
    """One batch, from its current state to its end."""

    def __init__(
        self,
        inputs: InputFiles,
        store: JobStore,
        cipher: KeyCipher,
        scheduler: FairScheduler,
        *,
        key: EndpointKey,
        batch_id: str,
    ) -> None:
        self._files = inputs.files
        self._documents = inputs.files.documents
        self._scheduler = scheduler
        self._store = store
        self._inputs = inputs
        self._lock = inputs.locks.of(key[0])
        self._cipher = cipher
        self._key = key
        self._id = batch_id

    async def run(self) -> None:
        """Process the batch. Raises Unavailable, and Lost if another gateway processes it by now."""
        record = await self._documents.get(self._key, "batch", self._id)
        self._batch: ApiObject = json.loads(record or "{}") | {"id": self._id}
        kind = BucketResults if self._files.bucket else DocumentResults
        self._results: Results = kind(self._files, self._key, self._batch, self._lock)
        # its endpoint no longer exists, or another gateway has closed it
        if self._batch.get("status") not in objects.OPEN_STATUSES:
            await self._close()
            return
        try:
            status = await self._process()
        except ContentMissing:
            status = self._fail("file_gone", "The input file is no longer in the bucket, or the bucket is off.")
        if status != BATCH_GONE:
            await self._save()
        await self._close()
        BATCHES.labels(status).inc()

    async def _process(self) -> str:
        """Process the batch. Returns the state in which it ends. Raises ContentMissing."""
        if await self._files.lacks_bucket(self._key, self._batch):
            raise ContentMissing
        begun = self._batch["status"] != "validating"
        file, route = self._batch["input_file_id"], self._batch["endpoint"]
        requests, errors = await self._inputs.read(self._key, file, route, begun=begun)
        if errors:
            objects.fail(self._batch, errors, time.time())
            return "failed"
        if self._batch["status"] == "validating":
            objects.move(self._batch, "in_progress", time.time())
            self._batch["request_counts"]["total"] = len(requests)
            await self._save()
        try:
            status = await self._do(requests)
        except Full:
            setting = "files_bytes or bucket_bytes" if self._files.bucket else "files_bytes"
            text = f"There is no room for the results. Delete files, or raise the gateway's {setting}."
            status = self._fail("no_space", text)
        if status == BATCH_GONE:
            return status
        if status != "failed":
            objects.move(self._batch, "finalizing", time.time())
        await self._results.write_files(requests, status)
        if status != "failed":
            objects.move(self._batch, status, time.time())
        return status

    def _fail(self, code: str, message: str) -> str:
        objects.fail(self._batch, [batch_error(code, message)], time.time())
        return "failed"

    async def _do(self, requests: BatchRequests) -> str:
        """Run the requests without a result. Returns the state in which the batch ends."""
        numbers = await self._results.undone(len(requests))
        if status := await self._ended_early():
            return status
        left = iter(numbers)
        encrypted = await self._documents.get(self._key, "key", self._id) or ""
        api_key = self._cipher.decrypt(encrypted, _owner(self._key, self._id))
        many = min(JOBS_PER_BATCH, len(numbers))
        workers = {asyncio.create_task(self._work(requests, left, api_key)) for _ in range(many)}
        try:
            while workers:
                done, workers = await asyncio.wait(workers, timeout=BATCH_POLL_INTERVAL)
                for each in done:
                    each.result()
                if workers and (status := await self._ended_early()):
                    return status
                await self._save()
        finally:
            for each in workers:
                each.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return "completed"

    async def _ended_early(self) -> str:
        """The state of a batch that ends before all requests have run; "" if it continues."""
        if await self._documents.get(self._key, "batch", self._id) is None:
            return BATCH_GONE
        if await self._documents.get(self._key, "cancel", self._id) is not None:
            return "cancelled"
        return "expired" if time.time() >= self._batch["expires_at"] else ""

    async def _work(self, requests: BatchRequests, left: Iterator[int], api_key: str) -> None:
        for number in left:
            job_id = f"{self._id}-{number}"
            try:
                job, custom_id = await self._run_request(job_id, requests, number, api_key)
            except asyncio.CancelledError:
                if await self._ended_early():
                    await self._store.cancel(self._key, job_id)
                raise
            if job is None:
                await self._results.add(number, *render_result(custom_id, None))
            else:
                async with self._store.output_lock(job):
                    whole = await self._store.whole(job)
                    async with self._scheduler.exclusive_step(self._key[0]) if job.output_size > MIB else nullcontext():
                        well, line = render_result(custom_id, whole)
                    await self._results.add(number, well, line)

    async def _run_request(
        self, job_id: str, requests: BatchRequests, number: int, api_key: str
    ) -> tuple[Job | None, str]:
        """Run one request. Returns its ended job, None if it no longer exists, and the request's custom_id."""
        size = requests.size(number)
        with self._store.changes(job_id) as changed:
            while True:
                try:
                    async with self._inputs.room(self._key, size) if size > UNCOUNTED_BYTES else nullcontext():
                        request = await requests.read(number)
                        custom_id = request.custom_id
                        await self._submit(job_id, request, api_key)
                        del request
                    break
                except Full:
                    await wait_for_event(changed, JOB_RECHECK_INTERVAL)
            return await self._store.wait_for_end(self._key, job_id, changed, math.inf), custom_id

    async def _submit(self, job_id: str, request: Request, api_key: str) -> None:
        """Submit the job of a request. Raises Full."""
        given = job_input(self._batch["endpoint"], request)
        submission = Submission(given, BATCH_JOB_TIMEOUT, DAY, BATCH_JOB_RETENTION, low=False, webhook="")
        await self._store.submit(self._key, job_id, submission, api_key)

    async def _save(self) -> None:
        text = json.dumps(self._batch)
        await self._documents.put(self._key, "batch", self._id, text, objects.BATCH_RETENTION, bounded=False)

    async def _close(self) -> None:
        """Delete the batch's working documents, and remove it from the open batches."""
        await self._results.close()
        for kind in ("key", "cancel"):
            await self._documents.delete(self._key, kind, self._id)
        await self._documents.delete(ALL_ENDPOINTS, "open", self._id)


def _owner(key: EndpointKey, batch_id: str) -> str:
    """The owner of an API key that is kept with a batch, for KeyCipher."""
    return f"batch {'/'.join(key)} {batch_id}"
