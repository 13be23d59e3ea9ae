"""Stores the answers of a batch whose files are in the bucket. The batch processor calls it.

Answers collect in documents. At one MiB they become a part of the output file and a part of the error file, which
`BucketProgress` lists. If the documents have no room, answers collect in memory. If the gateway dies, the next
gateway reads these answers from their jobs.

A gateway that dies between two steps loses nothing. The reaper deletes parts that no `BucketProgress` lists. A result
that is in a part and still in a document is counted once.
"""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay_gateway.batches import objects
from forebay_gateway.batches.contents import ContentPart, file_folder, parse_parts, part_name, render_parts
from forebay_gateway.batches.document_store import PROGRESS
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.jsonl import BatchRequests, render_unanswered
from forebay_gateway.batches.objects import ApiObject
from forebay_gateway.batches.results import FILES_OF_RESULTS, Results, result_file_id
from forebay_gateway.jobs.store import Full
from forebay_gateway.settings import MIB
from forebay_kube.endpoint_key import EndpointKey

RESULTS_PART_BYTES = MIB
"""Bytes of results that become parts together. S3 has no minimum size of an object."""

MAX_HELD_SECONDS = 300.0
"""Seconds for which results may be in memory only, while more arrive. Well below the time for which a job is kept."""


@dataclass
class BucketProgress:
    """The results of a batch that are in the bucket.

    Attributes:
        done: one bit for each request; the first is the lowest bit of the first byte.
        parts: the parts of the output file ("+") and of the error file ("-").
        counts: the number of results in the output file and in the error file.
    """

    done: bytearray
    parts: dict[str, list[ContentPart]] = field(default_factory=lambda: {"+": [], "-": []})
    counts: dict[str, int] = field(default_factory=lambda: {"+": 0, "-": 0})

    @property
    def size(self) -> int:
        """Bytes in the bucket."""
        return sum(part.size for parts in self.parts.values() for part in parts)

    def has(self, number: int) -> bool:
        """Whether the request with this number has a result."""
        return bool(self.done[number >> 3] >> (number & 7) & 1)

    def mark(self, number: int) -> None:
        """Record that the request with this number has a result."""
        self.done[number >> 3] |= 1 << (number & 7)

    def render(self) -> str:
        """The progress as JSON, in the form that `read_progress` parses."""
        parts = {sign: render_parts(parts) for sign, parts in self.parts.items()}
        return json.dumps({"done": base64.b64encode(self.done).decode(), "parts": parts, "counts": self.counts})


def read_progress(text: str | None, total: int) -> BucketProgress:
    """Parse the progress of a batch with `total` requests; a new one if there is no document."""
    if text is None:
        return BucketProgress(bytearray((total + 7) // 8))
    document = json.loads(text)
    parts = {sign: parse_parts(each) for sign, each in document["parts"].items()}
    return BucketProgress(bytearray(base64.b64decode(document["done"])), parts, document["counts"])


class BucketResults(Results):
    """Results in the bucket. About one MiB of results is in memory while a part is written."""

    def __init__(self, files: FileStore, key: EndpointKey, batch: ApiObject, lock: asyncio.Lock) -> None:
        super().__init__(files, key, batch, lock)
        self._pending_bytes = 0
        self._held: dict[int, str] = {}
        self._held_since = 0.0
        self._writing = asyncio.Lock()
        self._progress = BucketProgress(bytearray())

    async def undone(self, total: int) -> list[int]:
        self._progress = read_progress(await self._documents.get(self._key, PROGRESS, self._batch["id"]), total)
        async with self._lock:
            pending = await self._pending()
            self._pending_bytes = sum(map(len, pending.values()))
        self._count(pending)
        return [number for number in range(total) if number not in pending and not self._progress.has(number)]

    async def write_files(self, requests: BatchRequests, status: str) -> None:
        await self._flush(bounded=False)
        self._count({})
        unanswered: dict[int, str] = {}
        size = 0
        for number in range(len(requests)):
            if not self._progress.has(number):
                line = render_unanswered((await requests.read(number)).custom_id, status)
                unanswered[number] = f"-{line}"
                size += len(line)
            if size > RESULTS_PART_BYTES:
                await self._write(unanswered, bounded=False)
                unanswered, size = {}, 0
        await self._write(unanswered, bounded=False)
        for sign, (name_of_field, name) in FILES_OF_RESULTS.items():
            if parts := self._progress.parts[sign]:
                file = self._new_file(name, sum(part.size for part in parts))
                # not bounded: the progress, which counted these bytes, is deleted right after
                await self._files.put_parts(self._key, file, parts, bounded=False)
                self._batch[name_of_field] = file["id"]

    async def _store(self, number: int, result: str) -> None:
        try:
            await self._documents.put(self._key, self._kind, str(number), result, objects.BATCH_RETENTION)
        except Full:
            self._held_since = self._held_since if self._held else time.monotonic()
            self._held[number] = result
        self._pending_bytes += len(result)
        late = self._held and time.monotonic() - self._held_since > MAX_HELD_SECONDS
        if (self._pending_bytes > RESULTS_PART_BYTES or late) and not self._writing.locked():
            await self._flush()
        elif number in self._held and self._pending_bytes > RESULTS_PART_BYTES:
            async with self._writing:  # waits, so that no more results collect in memory
                pass

    async def _pending(self) -> dict[int, str]:
        """The results that are in documents or in memory, and not in the bucket."""
        documents = await self._documents.all(self._key, self._kind)
        every = {int(name): text for name, text in documents.items()} | self._held
        return {number: text for number, text in every.items() if not self._progress.has(number)}

    async def _flush(self, *, bounded: bool = True) -> None:
        """Move the results in documents and in memory into the bucket. May raise Full if `bounded`."""
        async with self._writing, self._lock:
            self._pending_bytes = 0
            pending = await self._pending()
            await self._write(pending, bounded=bounded)
            self._held = {number: text for number, text in self._held.items() if number not in pending}
            await self._documents.discard(self._key, self._kind, [str(number) for number in pending])

    def _count(self, pending: Mapping[int, str]) -> None:
        """Set the batch's counts from the results in the bucket and the pending ones."""
        counts = self._batch["request_counts"]
        for sign, name in (("+", "completed"), ("-", "failed")):
            counts[name] = self._progress.counts[sign] + sum(each[0] == sign for each in pending.values())

    async def _write(self, results: Mapping[int, str], *, bounded: bool) -> None:
        """Write results as a part of the output file and of the error file. May raise Full if `bounded`."""
        lines: dict[str, list[str]] = {"+": [], "-": []}
        for number in sorted(results):
            lines[results[number][0]].append(results[number][1:])
        added: dict[str, ContentPart] = {}
        assert self._files.bucket
        for sign, each in lines.items():
            if each:
                data = ("\n".join(each) + "\n").encode(errors="replace")
                part = ContentPart(part_name(len(self._progress.parts[sign])), len(data))
                folder = file_folder(self._key, result_file_id(self._batch["id"], FILES_OF_RESULTS[sign][1]))
                await self._files.bucket.put(f"{folder}/{part.name}", data)
                added[sign] = part
        if added:
            await self._save(self._with(results, added), bounded=bounded)

    def _with(self, results: Mapping[int, str], added: Mapping[str, ContentPart]) -> BucketProgress:
        """Return the progress after `results` were written to the bucket, as the parts `added`."""
        progress = BucketProgress(bytearray(self._progress.done), {}, dict(self._progress.counts))
        for number, result in results.items():
            progress.mark(number)
            progress.counts[result[0]] += 1
        progress.parts = {
            sign: [*parts, added[sign]] if sign in added else parts for sign, parts in self._progress.parts.items()
        }
        return progress

    async def _save(self, progress: BucketProgress, *, bounded: bool) -> None:
        await self._documents.put(
            self._key,
            PROGRESS,
            self._batch["id"],
            progress.render(),
            objects.BATCH_RETENTION,
            bounded=bounded,
            objects_size=progress.size,
            lease=self._batch["id"],
        )
        self._progress = progress
