"""Stores the results of a batch, and writes its output and error files. The batch processor calls it.

Each result is stored immediately, so that another gateway can continue. `DocumentResults` keeps results in documents
until the end. `bucket_results` writes them into the bucket while the batch runs.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

from forebay_gateway.batches import objects
from forebay_gateway.batches.document_store import PROGRESS
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.jsonl import BatchRequests, render_unanswered
from forebay_gateway.batches.objects import ApiObject
from forebay_kube.endpoint_key import EndpointKey

LINES_PER_STEP = 1000
"""Lines of the output that are written in one step of the event loop."""

FILES_OF_RESULTS = {"+": ("output_file_id", "output"), "-": ("error_file_id", "error")}
"""Sign of a result -> the field of the batch and the name of the file."""


class Results(ABC):
    """The results of one batch.

    Every method may raise Unavailable, and Lost if another gateway processes the batch. `lock` is for steps
    that need much memory.
    """

    def __init__(self, files: FileStore, key: EndpointKey, batch: ApiObject, lock: asyncio.Lock) -> None:
        self._files = files
        self._documents = files.documents
        self._key = key
        self._batch = batch
        self._kind = f"results-{batch['id']}"
        self._lock = lock

    @abstractmethod
    async def undone(self, total: int) -> list[int]:
        """The indexes (0 to `total` - 1) of the requests without a result. This method also sets the batch's counts."""

    async def add(self, number: int, well: bool, line: str) -> None:
        """Store the result of a request. `well`: whether the request succeeded. Raises Full."""
        await self._store(number, f"{'+' if well else '-'}{line}")
        self._batch["request_counts"]["completed" if well else "failed"] += 1

    @abstractmethod
    async def write_files(self, requests: BatchRequests, status: str) -> None:
        """Write the output and the error file of a batch that ends with this status. Empty files are omitted."""

    async def close(self) -> None:
        """Delete everything except the files."""
        await self._documents.clear(self._key, self._kind)
        await self._documents.delete(self._key, PROGRESS, self._batch["id"])

    @abstractmethod
    async def _store(self, number: int, result: str) -> None: ...

    def _new_file(self, name: str, size: int) -> ApiObject:
        batch_id = self._batch["id"]
        return objects.new_file(
            f"{batch_id}_{name}.jsonl",
            "batch_output",
            size,
            time.time(),
            retention=objects.output_retention(self._batch),
            file_id=result_file_id(batch_id, name),
        )


class DocumentResults(Results):
    """Results in documents. All of them are in memory while the files are written."""

    async def undone(self, total: int) -> list[int]:
        async with self._lock:
            done = await self._documents.all(self._key, self._kind)
            self._count(done)
            return [number for number in range(total) if str(number) not in done]

    async def write_files(self, requests: BatchRequests, status: str) -> None:
        async with self._lock:
            done = await self._documents.all(self._key, self._kind)
            self._count(done)
            lines: dict[str, list[str]] = {"+": [], "-": []}
            for number in range(len(requests)):
                record = done.get(str(number))
                if record is None:
                    record = "-" + render_unanswered((await requests.read(number)).custom_id, status)
                if number % LINES_PER_STEP == LINES_PER_STEP - 1:
                    await asyncio.sleep(0)  # lets other tasks run
                lines[record[0]].append(record[1:])
            for sign, (field, name) in FILES_OF_RESULTS.items():
                if lines[sign] and not self._batch[field]:
                    content = "\n".join(lines[sign]) + "\n"
                    file = self._new_file(name, len(content.encode()))
                    # not bounded: the results, which counted these bytes, are deleted right after
                    await self._files.put_text(self._key, file, content, bounded=False)
                    self._batch[field] = file["id"]

    async def _store(self, number: int, result: str) -> None:
        await self._documents.put(self._key, self._kind, str(number), result, objects.BATCH_RETENTION)

    def _count(self, done: Mapping[str, str]) -> None:
        counts = self._batch["request_counts"]
        counts["completed"] = sum(record[0] == "+" for record in done.values())
        counts["failed"] = len(done) - counts["completed"]


def result_file_id(batch_id: str, name: str) -> str:
    """The ID of a batch's `output` or `error` file."""
    return f"file-{batch_id.removeprefix('batch_')}-{name}"


def batch_of_file(file_id: str) -> str:
    """The ID of the batch whose output or error file this may be."""
    return f"batch_{file_id.removeprefix('file-').partition('-')[0]}"
