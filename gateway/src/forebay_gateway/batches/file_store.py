"""Stores the content of a file in one document, or in parts in a bucket. Then a document lists the parts.

In both cases another document has the metadata of the file. Files from before the bucket was configured stay in
documents.
"""

import asyncio
import json
import time
from contextlib import suppress

from forebay_gateway.batches.bucket import Bucket, ContentMissing
from forebay_gateway.batches.contents import (
    BucketContent,
    Content,
    ContentPart,
    FileWriter,
    TextContent,
    delete_folder,
    endpoint_folder,
    file_folder,
    parse_parts,
    render_parts,
)
from forebay_gateway.batches.document_store import PROGRESS, STORED, DocumentStore
from forebay_gateway.batches.objects import ApiObject
from forebay_gateway.jobs.store import Full, Unavailable
from forebay_kube.endpoint_key import EndpointKey

ABANDON_SECONDS = 2.0
"""Seconds for which a client waits, at most, until the parts of its aborted upload are deleted."""


class FileStore:
    """The files of all endpoints. Every method may raise Unavailable."""

    def __init__(self, documents: DocumentStore, bucket: Bucket | None = None) -> None:
        self.documents = documents
        self.bucket = bucket
        self._deleting: set[asyncio.Task[None]] = set()

    async def find(self, key: EndpointKey, file_id: str) -> ApiObject | None:
        """The metadata of a file; None if there is no such file."""
        text = await self.documents.get(key, "file", file_id)
        return None if text is None else dict(json.loads(text))

    async def is_in_bucket(self, key: EndpointKey, file_id: str) -> bool:
        """Whether the content of the file is in the bucket."""
        return await self.documents.get(key, STORED, file_id) is not None

    async def lacks_bucket(self, key: EndpointKey, batch: ApiObject) -> bool:
        """Whether a batch has its input or its results in a bucket, and this gateway has no bucket."""
        return self.bucket is None and (
            await self.is_in_bucket(key, batch["input_file_id"])
            or await self.documents.get(key, PROGRESS, batch["id"]) is not None
        )

    async def open(self, key: EndpointKey, file_id: str) -> Content:
        """Open the content of a file. Content from a document is in memory as a whole. Raises ContentMissing."""
        parts = await self.documents.get(key, STORED, file_id)
        if parts is None:
            return TextContent(await self.documents.get(key, "content", file_id) or "")
        if self.bucket is None:
            raise ContentMissing
        return BucketContent(self.bucket, file_folder(key, file_id), parse_parts(json.loads(parts)))

    async def put_text(self, key: EndpointKey, file: ApiObject, content: str, *, bounded: bool = True) -> None:
        """Store a file in documents. Raises Full if `bounded` is true and there is no room."""
        seconds = file["expires_at"] - time.time()
        await self.documents.put(key, "content", file["id"], content, seconds, bounded=bounded)
        await self.documents.put(key, "file", file["id"], json.dumps(file), seconds, bounded=False)

    def writer(self, key: EndpointKey, file_id: str) -> FileWriter:
        """A writer for a new file. The gateway must have a bucket."""
        assert self.bucket
        return FileWriter(self.bucket, file_folder(key, file_id))

    async def put_parts(
        self, key: EndpointKey, file: ApiObject, parts: list[ContentPart], *, bounded: bool = True
    ) -> None:
        """Store a file whose parts are in the bucket. Raises Full if `bounded` is true and there is no room."""
        seconds = file["expires_at"] - time.time()
        text, size = json.dumps(render_parts(parts)), file["bytes"]
        await self.documents.put(key, STORED, file["id"], text, seconds, bounded=bounded, objects_size=size)
        await self.documents.put(key, "file", file["id"], json.dumps(file), seconds, bounded=bounded)

    async def extend(self, key: EndpointKey, file: ApiObject, seconds: int) -> None:
        """Keep a file for `seconds` from now. Raises Full."""
        file = {**file, "expires_at": int(time.time()) + seconds}
        parts = await self.documents.get(key, STORED, file["id"])
        if parts is None:
            content = await self.documents.get(key, "content", file["id"])
            await self.put_text(key, file, content or "")
        else:
            await self.put_parts(key, file, parse_parts(json.loads(parts)))

    async def delete(self, key: EndpointKey, file_id: str) -> None:
        """Delete a file. Its documents are deleted last, so that an interrupted deletion can be repeated."""
        if self.bucket and await self.is_in_bucket(key, file_id):
            await delete_folder(self.bucket, file_folder(key, file_id))
        for kind in (STORED, "content", "file"):
            await self.documents.delete(key, kind, file_id)

    async def clear(self, key: EndpointKey) -> None:
        """Delete all documents and all objects of an endpoint."""
        await self.documents.clear(key)
        if self.bucket:
            await delete_folder(self.bucket, endpoint_folder(key))

    async def abandon(self, writer: FileWriter) -> None:
        """Delete the parts of an aborted upload. The client waits for ABANDON_SECONDS at most.

        The reaper deletes the rest.
        """
        task = asyncio.create_task(writer.delete())
        self._deleting.add(task)
        task.add_done_callback(self._deleting.discard)
        await asyncio.wait({task}, timeout=ABANDON_SECONDS)

    async def commit(self, key: EndpointKey, file: ApiObject, writer: FileWriter) -> None:
        """Store an uploaded file whose parts are written. If that fails, delete the parts. Raises Full."""
        try:
            await self.put_parts(key, file, writer.parts)
        except (Full, Unavailable):
            await self.abandon(writer)
            with suppress(Unavailable):
                await self.documents.delete(key, STORED, file["id"])
            raise
