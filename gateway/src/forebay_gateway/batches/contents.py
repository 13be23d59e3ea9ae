"""Reads and writes the contents of files: one document, or parts in a bucket, which are read piece by piece.

Uploads write them, and the file API and the batch processor read them.
"""

import asyncio
import uuid
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from forebay_gateway.batches.bucket import Bucket
from forebay_gateway.jobs.store import Unavailable
from forebay_gateway.settings import MIB
from forebay_kube.endpoint_key import EndpointKey

PART_BYTES = 8 * MIB
"""Bytes of a part of an uploaded file."""

PIECE_BYTES = MIB
"""Bytes of a file that are read at a time."""

FILES_FOLDER = "files"


class Content(Protocol):
    """The bytes of one file."""

    size: int

    async def read(self, start: int, length: int) -> bytes:
        """Read `length` bytes from `start`, fewer at the end. Raises Unavailable and ContentMissing."""


class TextContent:
    """The content of a file in a document."""

    def __init__(self, text: str) -> None:
        self._bytes = text.encode(errors="replace")
        self.size = len(self._bytes)

    async def read(self, start: int, length: int) -> bytes:
        return self._bytes[start : start + length]


@dataclass(frozen=True)
class ContentPart:
    """One object of a file. `name` is the last part of the object's name."""

    name: str
    size: int


PartList = Sequence[tuple[str, int]]
"""The parts of a file in a document: their names and sizes."""


class BucketContent:
    """The content of a file in a bucket: its parts in their order."""

    def __init__(self, bucket: Bucket, folder: str, parts: Sequence[ContentPart]) -> None:
        self._bucket = bucket
        self._folder = folder
        self._parts = parts
        self._ends = list(accumulate(part.size for part in parts))
        self.size = self._ends[-1] if parts else 0

    async def read(self, start: int, length: int) -> bytes:
        data = bytearray()
        end = min(start + length, self.size)
        while (place := start + len(data)) < end:
            number = bisect_right(self._ends, place)
            part = self._parts[number]
            inside = place - (self._ends[number] - part.size)
            size = min(part.size - inside, end - place)
            piece = await self._bucket.read(f"{self._folder}/{part.name}", inside, size)
            if len(piece) != size:
                raise Unavailable
            data += piece
        return bytes(data)


async def read_pieces(content: Content, start: int = 0) -> AsyncIterator[bytes]:
    """The bytes of a file from `start` to its end."""
    for place in range(start, content.size, PIECE_BYTES):
        yield await content.read(place, PIECE_BYTES)


class FileWriter:
    """Writes a file into the bucket while its bytes arrive, part by part."""

    def __init__(self, bucket: Bucket, folder: str) -> None:
        self.parts: list[ContentPart] = []
        self.size = 0
        self._bucket = bucket
        self._folder = folder
        self._names: list[str] = []
        self._buffer = bytearray()

    async def write(self, data: bytes) -> None:
        """Add bytes. Raises Unavailable."""
        self._buffer += data
        self.size += len(data)
        while len(self._buffer) >= PART_BYTES:
            await self._put(PART_BYTES)

    async def finish(self) -> None:
        """Write the last part. Raises Unavailable."""
        if self._buffer:
            await self._put(len(self._buffer))

    async def delete(self) -> None:
        """Delete all parts of an aborted upload. The reaper deletes parts that the bucket does not delete now."""
        with suppress(Unavailable):
            await self._bucket.delete(self._names)

    async def _put(self, size: int) -> None:
        name = part_name(len(self.parts))
        self._names.append(f"{self._folder}/{name}")  # before the write: a failed write may still create the object
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        await self._bucket.put(self._names[-1], data)
        self.parts.append(ContentPart(name, size))


def part_name(number: int) -> str:
    """A name that no other writer of the same file uses. So no writer overwrites another's part."""
    return f"{number:05d}-{uuid.uuid4().hex[:12]}"


def endpoint_folder(key: EndpointKey) -> str:
    """The folder of an endpoint's files in the bucket."""
    return f"{FILES_FOLDER}/{key[0]}/{key[1]}"


def file_folder(key: EndpointKey, file_id: str) -> str:
    """The folder with the parts of a file."""
    return f"{endpoint_folder(key)}/{file_id}"


def render_parts(parts: Sequence[ContentPart]) -> PartList:
    """The parts of a file as JSON for a document."""
    return [(part.name, part.size) for part in parts]


def parse_parts(parts: PartList) -> list[ContentPart]:
    """Parse the parts of a file in a document."""
    return [ContentPart(name, size) for name, size in parts]


async def delete_folder(bucket: Bucket, folder: str) -> None:
    """Delete all objects below a folder. Raises Unavailable."""
    names: list[str] = []
    async for each in bucket.objects(folder):
        names.append(each.name)
        if len(names) == 1000:
            await bucket.delete(names)
            names.clear()
            await asyncio.sleep(0)
    await bucket.delete(names)
