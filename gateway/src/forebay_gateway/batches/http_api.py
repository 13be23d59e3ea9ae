"""Answers the requests of OpenAI's /v1/files and /v1/batches. The handler calls it after it has checked the key."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from forebay_gateway.batches import objects
from forebay_gateway.batches.bucket import ContentMissing
from forebay_gateway.batches.contents import PIECE_BYTES, Content, read_pieces
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.objects import ApiObject
from forebay_gateway.batches.processor import BatchProcessor
from forebay_gateway.batches.upload import BadUpload, UploadFields, read_upload, receive_upload
from forebay_gateway.fairness.quotas import Quota, Reservation, TenantLocks
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.http import errors
from forebay_gateway.http.body_stream import BodyStream
from forebay_gateway.http.errors import Refused, retry_after
from forebay_gateway.jobs.store import Full, Unavailable
from forebay_kube.endpoint_key import EndpointKey
from forebay_protocol.errors import SLOW_BODY, ApiError, shorten

MAX_FILES_PER_PAGE, MAX_BATCHES_PER_PAGE = 10_000, 100
"""Files and batches in one page of a list."""

RECORDS_PER_STEP = 500
"""Records that are parsed in one step of the event loop."""


@dataclass(frozen=True)
class BatchApiCall:
    """One request about an endpoint's files or batches; `parts` is its path after /v1/, split at the slashes."""

    key: EndpointKey
    method: str
    parts: tuple[str, ...]
    query: str
    content_type: str
    api_key: str
    body: bytes | bytearray | BodyStream
    """A stream if a file is uploaded into the bucket."""


@dataclass(frozen=True)
class BatchAnswer:
    """The body of an answer: JSON, or the content of a file, complete or in `pieces` with `size` bytes in all."""

    content: bytes
    content_type: str = "application/json"
    pieces: AsyncGenerator[bytes, None] | None = None
    size: int = 0


OCTETS = "application/octet-stream"

_STORE_UNAVAILABLE = ApiError(
    503, "The store of files and batches does not answer. Try again.", "service_unavailable", headers=retry_after(5)
)

MAX_BATCH_REQUEST_BYTES = 64 << 10
"""Bytes of the request that creates a batch."""


class BatchApi:
    """OpenAI's files and batches of every endpoint."""

    def __init__(
        self,
        files: FileStore,
        worker: BatchProcessor,
        answers: Quota,
        scheduler: FairScheduler,
        *,
        max_file_bytes: int = 0,
        upload_seconds: float = 0.0,
    ) -> None:
        self._files = files
        self._documents = files.documents
        self._worker = worker
        self._max_file_bytes = max_file_bytes
        self._upload_seconds = upload_seconds
        self._answers = answers
        self._scheduler = scheduler
        self._locks = TenantLocks()

    @property
    def has_bucket(self) -> bool:
        """Whether files are uploaded into a bucket. Their bodies are then streams."""
        return self._files.bucket is not None

    async def answer(self, call: BatchApiCall) -> BatchAnswer:
        """Answer a request. Raises Refused."""
        try:
            content = await self._route(call)
        except Full:
            setting = "bucket_bytes or files_bytes" if self._files.bucket else "files_bytes"
            text = f"There is no room for more files. Delete some, or raise the gateway's {setting}."
            raise Refused(ApiError(429, text, "files_full", headers=retry_after(60))) from None
        except Unavailable:
            raise Refused(_STORE_UNAVAILABLE) from None
        return content if isinstance(content, BatchAnswer) else BatchAnswer(json.dumps(content).encode())

    async def forget(self, key: EndpointKey) -> None:
        """Delete the files and batches of an endpoint that no longer exists."""
        await self._files.clear(key)

    async def _route(self, call: BatchApiCall) -> ApiObject | BatchAnswer:
        match call.method, *call.parts:
            case "POST", "files":
                return await self._upload(call)
            case "GET", "files":
                return await self._list_files(call)
            case "GET", "files", name:
                return await self._file(call.key, name)
            case "GET", "files", name, "content":
                return await self._content(call.key, name)
            case "DELETE", "files", name:
                return await self._delete_file(call.key, name)
            case "POST", "batches":
                return await self._create(call)
            case "GET", "batches":
                async with self._lock(call.key):
                    return _page(await self._batches(call.key), call.query, MAX_BATCHES_PER_PAGE, 20)
            case "GET", "batches", name:
                return await self._batch(call.key, name)
            case "POST", "batches", name, "cancel":
                return await self._cancel(call.key, name)
        path = shorten(f"/v1/{'/'.join(call.parts)}")
        if allowed := _allowed_methods(call.parts):
            text, headers = f"Not allowed to {call.method} on {path}.", (("allow", ", ".join(sorted(allowed))),)
            raise Refused(ApiError(405, text, "method_not_supported", headers=headers))
        raise Refused(ApiError(404, f"Invalid URL ({call.method} {path})", "unknown_url"))

    def _lock(self, key: EndpointKey) -> asyncio.Lock:
        """The lock for code that has a whole file, or all records of a kind, in memory."""
        return self._locks.of(key[0])

    async def _content(self, key: EndpointKey, name: str) -> BatchAnswer:
        file = await self._file(key, name)
        if await self._files.is_in_bucket(key, name):
            try:
                content = await self._files.open(key, name)
            except ContentMissing:
                raise Refused(_content_missing(name)) from None
            pieces = self._read_pieces(key, name, content)
            return BatchAnswer(b"", OCTETS, pieces, content.size)
        async with self._lock(key):
            if not self._answers.has_room(key[0], file["bytes"]):  # before it is read and copied
                raise Refused(errors.TOO_MANY_WAITING)
            whole = await self._files.open(key, name)
            return BatchAnswer(await whole.read(0, whole.size), OCTETS)

    async def _read_pieces(self, key: EndpointKey, name: str, content: Content) -> AsyncGenerator[bytes, None]:
        """Read the content of a file in the bucket. Raises Refused."""
        with Reservation(self._answers, key[0]) as reserved:
            if not reserved.resize(2 * PIECE_BYTES):
                raise Refused(errors.TOO_MANY_WAITING)
            try:
                async for piece in read_pieces(content):
                    yield piece
            except ContentMissing:
                raise Refused(_content_missing(name)) from None
            except Unavailable:
                raise Refused(_STORE_UNAVAILABLE) from None

    async def _upload(self, call: BatchApiCall) -> ApiObject:
        if isinstance(call.body, BodyStream):
            return await self._receive_file(call, call.body)
        async with self._lock(call.key):
            return await self._store_file(call, call.body)

    async def _store_file(self, call: BatchApiCall, body: bytes | bytearray) -> ApiObject:
        """Store a file from a complete body, in documents. It takes two steps, as either of them may be long."""
        try:
            async with self._scheduler.exclusive_step(call.key[0]):
                upload = read_upload(call.content_type, body)
            async with self._scheduler.exclusive_step(call.key[0]):
                text = upload.decode()
        except BadUpload as error:
            raise _bad(str(error), error.param) from None
        file = _new_file(upload, len(upload.content), objects.new_file_id())
        await asyncio.shield(self._files.put_text(call.key, file, text))
        return file

    async def _receive_file(self, call: BatchApiCall, body: BodyStream) -> ApiObject:
        """Write a file into the bucket while it arrives. The parts of an incomplete upload are deleted."""
        file_id = objects.new_file_id()
        writer = self._files.writer(call.key, file_id)
        try:
            async with asyncio.timeout(self._upload_seconds):
                upload = await receive_upload(call.content_type, body, writer, self._max_file_bytes)
                file = _new_file(upload, writer.size, file_id)
                await writer.finish()
        except TimeoutError:
            await self._files.abandon(writer)
            raise Refused(SLOW_BODY) from None
        except BadUpload as error:
            await self._files.abandon(writer)
            raise _bad(str(error), error.param) from None
        except BaseException:
            await self._files.abandon(writer)
            raise
        await asyncio.shield(self._files.commit(call.key, file, writer))
        return file

    async def _delete_file(self, key: EndpointKey, name: str) -> ApiObject:
        await self._file(key, name)
        async with self._lock(key):
            users = [each["id"] for each in await self._batches(key) if _uses(each, name)]
        if users:
            text = f"The file {name} is the input of {users[0]}, which has not ended."
            raise Refused(ApiError(409, text, "file_in_use"))
        await self._files.delete(key, name)
        return {"id": name, "object": "file", "deleted": True}

    async def _list_files(self, call: BatchApiCall) -> ApiObject:
        purpose = _query_value(call.query, "purpose")
        async with self._lock(call.key):
            files = [each for each in await self._records(call.key, "file") if purpose in ("", each["purpose"])]
            return _page(files, call.query, MAX_FILES_PER_PAGE, MAX_FILES_PER_PAGE)

    async def _file(self, key: EndpointKey, name: str) -> ApiObject:
        return _require(await self._documents.get(key, "file", name), "File", name)

    async def _batches(self, key: EndpointKey) -> list[ApiObject]:
        cancelled = await self._documents.all(key, "cancel")
        return [_show(each, cancelled.get(each["id"])) for each in await self._records(key, "batch")]

    async def _records(self, key: EndpointKey, kind: str) -> list[ApiObject]:
        """All records of a kind. Other tasks run between slices of them."""
        records: list[ApiObject] = []
        for text in (await self._documents.all(key, kind)).values():
            records.append(json.loads(text))
            if len(records) % RECORDS_PER_STEP == 0:
                await asyncio.sleep(0)
        return records

    async def _batch(self, key: EndpointKey, name: str) -> ApiObject:
        text = await self._documents.get(key, "batch", name)
        return _show(_require(text, "Batch", name), await self._documents.get(key, "cancel", name))

    async def _create(self, call: BatchApiCall) -> ApiObject:
        content = _object(call.body if not isinstance(call.body, BodyStream) else b"")
        endpoint, window = content.get("endpoint"), content.get("completion_window")
        file, metadata = content.get("input_file_id"), content.get("metadata")
        if endpoint not in objects.ENDPOINTS:
            raise _bad(f"endpoint must be one of {', '.join(objects.ENDPOINTS)}.", "endpoint")
        if window != objects.WINDOW:
            raise _bad(f"completion_window must be {objects.WINDOW}.", "completion_window")
        if not isinstance(file, str):
            raise _bad("input_file_id must be the ID of an uploaded file.", "input_file_id")
        if metadata is not None and not _is_metadata(metadata):
            raise _bad("metadata must be up to 16 strings by names of up to 64 characters.", "metadata")
        output_retention = _read_output_retention(content.get("output_expires_after"))
        input_file = await self._file(call.key, file)
        if input_file["purpose"] != "batch":
            raise _bad(f"The file {file} was not uploaded with purpose batch.", "input_file_id")
        batch = objects.new_batch(endpoint, file, metadata, time.time(), output_retention=output_retention)
        await asyncio.shield(self._begin(call, batch, input_file))
        return batch

    async def _begin(self, call: BatchApiCall, batch: ApiObject, file: ApiObject) -> None:
        """Queue a batch. The expiry of its input is extended so that the batch can end."""
        needed = 2 * objects.DAY
        if file["expires_at"] < time.time() + needed:
            async with self._lock(call.key):
                await self._files.extend(call.key, file, needed)
        await self._worker.submit(call.key, batch, call.api_key)

    async def _cancel(self, key: EndpointKey, name: str) -> ApiObject:
        batch = await self._batch(key, name)
        if batch["status"] in objects.OPEN_STATUSES:
            await self._documents.put(key, "cancel", name, str(int(time.time())), objects.BATCH_RETENTION)
        elif batch["status"] != "cancelling":
            text = f"The batch {name} is {batch['status']}, and cannot be cancelled."
            raise Refused(ApiError(409, text, "batch_over"))
        return await self._batch(key, name)


def _allowed_methods(parts: Sequence[str]) -> set[str]:
    """The methods of a path; empty for an unknown path."""
    match parts:
        case ["files"] | ["batches"]:
            return {"GET", "POST"}
        case ["files", _]:
            return {"DELETE", "GET"}
        case ["batches", _] | ["files", _, "content"]:
            return {"GET"}
        case ["batches", _, "cancel"]:
            return {"POST"}
    return set()


def _show(batch: ApiObject, cancelled: str | None) -> ApiObject:
    """A batch in the form for clients. `cancelled`: the time of its cancellation, if any."""
    if cancelled and batch["status"] in objects.OPEN_STATUSES:
        return {**batch, "status": "cancelling", "cancelling_at": int(cancelled)}
    return batch


def _uses(batch: ApiObject, file: str) -> bool:
    return batch["input_file_id"] == file and batch["status"] in {*objects.OPEN_STATUSES, "cancelling"}


def _new_file(upload: UploadFields, size: int, file_id: str) -> ApiObject:
    """Build the object of an uploaded file of `size` bytes. Raises Refused."""
    if upload.purpose != "batch":
        raise _bad("Files are for batches here: purpose must be batch.", "purpose")
    retention = objects.FILE_RETENTION if upload.retention is None else upload.retention
    if not objects.MIN_RETENTION <= retention <= objects.MAX_RETENTION:
        text = f"expires_after[seconds] must be from {objects.MIN_RETENTION} to {objects.MAX_RETENTION}."
        raise _bad(text, "expires_after")
    return objects.new_file(upload.filename, "batch", size, time.time(), retention=retention, file_id=file_id)


def _read_output_retention(expiry: object) -> int | None:
    """The seconds for which a batch's files are kept; None if the request has none. Raises Refused."""
    if expiry is None:
        return None
    seconds = expiry.get("seconds") if isinstance(expiry, dict) and expiry.get("anchor") == objects.ANCHOR else None
    if type(seconds) is not int or not objects.MIN_RETENTION <= seconds <= objects.MAX_RETENTION:
        bounds = f"seconds from {objects.MIN_RETENTION} to {objects.MAX_RETENTION}"
        raise _bad(f"output_expires_after must have the anchor {objects.ANCHOR}, and {bounds}.", "output_expires_after")
    return seconds


def _content_missing(name: str) -> ApiError:
    return ApiError(404, f"The content of the file {name} is no longer in the bucket.", "not_found", "id")


def _require(text: str | None, kind: str, name: str) -> ApiObject:
    if text is None:
        raise Refused(ApiError(404, f"No such {kind} object: {name}", "not_found", "id"))
    return dict(json.loads(text))


def _bad(message: str, param: str | None = None) -> Refused:
    return Refused(ApiError(400, message, "invalid_value", param))


def _object(body: bytes | bytearray) -> Mapping[str, Any]:
    if len(body) > MAX_BATCH_REQUEST_BYTES:
        raise Refused(
            ApiError(413, f"The request's body has more than {MAX_BATCH_REQUEST_BYTES} bytes.", "request_too_large")
        )
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _bad("The request's body is not a JSON object.")
    return content


def _is_metadata(metadata: object) -> bool:
    return (
        isinstance(metadata, dict)
        and len(metadata) <= 16
        and all(len(name) <= 64 and isinstance(value, str) and len(value) <= 512 for name, value in metadata.items())
    )


def _page(records: list[ApiObject], query: str, max_limit: int, default: int) -> ApiObject:
    if (order := _query_value(query, "order")) not in ("", "asc", "desc"):
        raise _bad("order must be asc or desc.", "order")
    text = _query_value(query, "limit") or str(default)
    if not text.isdecimal() or len(text) > len(str(max_limit)) or not 1 <= int(text) <= max_limit:
        raise _bad(f"limit must be from 1 to {max_limit}.", "limit")
    return objects.page(records, _query_value(query, "after"), int(text), ascending=order == "asc")


def _query_value(query: str, name: str) -> str:
    return next(iter(parse_qs(query).get(name, ())), "")
