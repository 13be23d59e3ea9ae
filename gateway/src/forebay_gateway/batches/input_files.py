"""Reads the input files of running batches. The batch processor calls it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakValueDictionary

from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.jsonl import UNBOUNDED, BatchRequests, LineBounds, read_requests
from forebay_gateway.batches.objects import ApiObject
from forebay_gateway.fairness.quotas import Quota, Reservation, TenantLocks
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.jobs.store import Full, Unavailable
from forebay_kube.endpoint_key import EndpointKey

ROOM_SECONDS = 60.0
"""Seconds for which a batch waits for memory. Then the batch pauses, as for a store that does not answer."""

LINE_COPIES = 9
"""Memory of a large line until it is a job, as a multiple of its bytes: once as bytes, and twice as a text with up to
four bytes for each character."""


class InputFiles:
    """The input files of running batches.

    A file in a document is in memory once, so all of them take no more than the store's budget. Only a window of a file
    in the bucket is in memory.
    """

    def __init__(self, files: FileStore, scheduler: FairScheduler, answers: Quota, bounds: LineBounds) -> None:
        self.locks = TenantLocks()
        """Locks for code that copies a whole file or a large line: one at a time for each namespace."""
        self.files = files
        self._scheduler = scheduler
        self._answers = answers
        self._bounds = bounds
        self._read: WeakValueDictionary[tuple[EndpointKey, str, str], BatchRequests] = WeakValueDictionary()

    async def read(
        self, key: EndpointKey, file: str, route: str, *, begun: bool
    ) -> tuple[BatchRequests, list[ApiObject]]:
        """Read the requests of a file. Returns them and the errors of the file. Raises ContentMissing and Unavailable.

        `begun`: the batch has been validated before, so the bounds of lines are not checked again.
        """
        bounds, long_step = UNBOUNDED if begun else self._bounds, partial(self._scheduler.exclusive_step, key[0])
        async with self.locks.of(key[0]):
            if await self.files.is_in_bucket(key, file):
                return await self._read_from_bucket(key, file, route, bounds)
            if (known := self._read.get((key, file, route))) is not None:
                return known, []
            requests, errors = await read_requests(await self.files.open(key, file), route, bounds, long_step)
            if not errors:
                self._read[key, file, route] = requests
            return requests, errors

    @asynccontextmanager
    async def room(self, key: EndpointKey, size: int) -> AsyncIterator[None]:
        """Reserve memory for a large line of `size` bytes until it is a job. Raises Full."""
        async with self.locks.of(key[0]), self._reserve(key, LINE_COPIES * size):
            yield

    async def _read_from_bucket(
        self, key: EndpointKey, file: str, route: str, bounds: LineBounds
    ) -> tuple[BatchRequests, list[ApiObject]]:
        content = await self.files.open(key, file)
        try:
            async with self._reserve(key, min(content.size, self._bounds.line)):
                return await read_requests(content, route, bounds, partial(self._scheduler.exclusive_step, key[0]))
        except Full as error:
            raise Unavailable from error

    @asynccontextmanager
    async def _reserve(self, key: EndpointKey, size: int) -> AsyncIterator[None]:
        """Reserve `size` bytes, but at most half of the amount that one namespace may use. Raises Full."""
        with Reservation(self._answers, key[0]) as reserved:
            if not await reserved.grow(min(size, self._answers.max_per_tenant // 2), ROOM_SECONDS):
                raise Full
            yield
