"""Files and results of batches in a bucket, by the gateway's modules that store them."""

import json
import time
from collections.abc import AsyncIterator

import obstore
import pytest
from obstore.store import S3Store

from forebay_gateway.batches import objects
from forebay_gateway.batches.bucket import Bucket, BucketSettings, ContentMissing
from forebay_gateway.batches.bucket_reaper import reap
from forebay_gateway.batches.bucket_results import RESULTS_PART_BYTES, BucketResults
from forebay_gateway.batches.contents import PART_BYTES, Content, TextContent, read_pieces
from forebay_gateway.batches.document_store import DocumentStore, MemoryDocumentStore
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.jsonl import LineBounds, read_requests
from forebay_gateway.batches.objects import ApiObject
from forebay_gateway.batches.valkey_documents import ValkeyDocumentStore
from forebay_gateway.fairness.quotas import TenantLocks
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_gateway.jobs.store import Full, Lost, Unavailable
from tests.integration.bucket_server import BUCKET, BucketServer
from tests.integration.document_stores import DOCUMENT_STORES, empty_documents
from tests.integration.valkey_process import ValkeyServer

KEY, OTHER = ("home", "one"), ("home", "two")
ROUTE = "/v1/completions"
FILES_BYTES = 100 << 20
REAP_AFTER = 7200.0


@pytest.fixture
def bucket(bucket_server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """With nothing in it."""
    bucket_server.empty()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-the-tests")
    return Bucket(BucketSettings(BUCKET, bucket_server.url, prefix="own", seconds=10))


@pytest.fixture(params=DOCUMENT_STORES)
async def documents(request: pytest.FixtureRequest, valkey_server: ValkeyServer) -> AsyncIterator[DocumentStore]:
    async with empty_documents(request.param, valkey_server, FILES_BYTES) as store:
        yield store


@pytest.fixture
async def files(documents: DocumentStore, bucket: Bucket) -> AsyncIterator[FileStore]:
    files = FileStore(documents, bucket)
    yield files
    for key in (KEY, OTHER):
        await files.clear(key)


async def upload(files: FileStore, content: bytes, file_id: str = "file-a") -> ApiObject:
    writer = files.writer(KEY, file_id)
    for start in range(0, len(content), 100_000):
        await writer.write(content[start : start + 100_000])
    await writer.finish()
    file = objects.new_file("a", "batch", len(content), time.time(), file_id=file_id)
    await files.commit(KEY, file, writer)
    return file


def lines(count: int, padding: int = 0) -> bytes:
    body = {"prompt": "ü" * padding}
    each = {"method": "POST", "url": ROUTE, "body": body}
    return "\n".join(json.dumps({"custom_id": f"r-{n}", **each}, ensure_ascii=False) for n in range(count)).encode()


async def whole(content: Content) -> bytes:
    return b"".join([piece async for piece in read_pieces(content)])


async def test_a_file_is_read_from_all_of_its_parts(files: FileStore, bucket_server: BucketServer) -> None:
    content = lines(200, padding=50_000)
    assert len(content) > 2 * PART_BYTES
    await upload(files, content)
    assert len(bucket_server.objects()) == 3
    opened = await files.open(KEY, "file-a")
    assert (opened.size, await whole(opened)) == (len(content), content)
    assert await opened.read(PART_BYTES - 5, 10) == content[PART_BYTES - 5 : PART_BYTES + 5]
    requests, errors = await read_requests(opened, ROUTE)
    plain, _ = await read_requests(TextContent(content.decode()), ROUTE)
    assert (len(requests), errors) == (200, [])
    assert [await requests.read(n) for n in range(200)] == [await plain.read(n) for n in range(200)]
    assert (await requests.read(3)).custom_id == "r-3", "an earlier object too"
    assert (await (await files.open(OTHER, "file-a")).read(0, 1)) == b"", "it belongs to the endpoint alone"
    await files.delete(KEY, "file-a")
    assert (bucket_server.objects(), await files.find(KEY, "file-a")) == ([], None)


async def test_reading_stops_at_a_line_that_is_too_long(files: FileStore) -> None:
    await upload(files, lines(1) + b"\n" + b"x" * 3_000_000)
    _, errors = await read_requests(await files.open(KEY, "file-a"), ROUTE, LineBounds(line=2_000_000))
    assert [(each["code"], each["line"]) for each in errors] == [("line_too_long", 2)]


async def test_a_rejected_file_leaves_no_object(bucket: Bucket, bucket_server: BucketServer) -> None:
    files = FileStore(MemoryDocumentStore(FILES_BYTES, bucket_bytes=10), bucket)
    with pytest.raises(Full):
        await upload(files, b"x" * 100)
    assert (bucket_server.objects(), await files.find(KEY, "file-a")) == ([], None)


async def test_objects_deleted_by_others_are_reported_as_missing(files: FileStore, bucket_server: BucketServer) -> None:
    await upload(files, b"x")
    opened = await files.open(KEY, "file-a")
    bucket_server.empty()
    with pytest.raises(ContentMissing):
        await opened.read(0, 1)
    await files.extend(KEY, await files.find(KEY, "file-a") or {}, 60 * objects.DAY)
    with pytest.raises(ContentMissing):
        await FileStore(files.documents).open(KEY, "file-a")


@pytest.mark.usefixtures("bucket")
async def test_a_missing_bucket_is_unavailable(bucket_server: BucketServer, caplog: pytest.LogCaptureFixture) -> None:
    missing = Bucket(BucketSettings("none-of-the-tests", bucket_server.url))
    with pytest.raises(Unavailable):
        await missing.put("a", b"")
    (record,) = caplog.records
    assert record.message.endswith("404 Not Found: NoSuchBucket")
    with pytest.raises(Unavailable):
        await missing.read("a", 0, 1)
    with pytest.raises(Unavailable):
        [each async for each in missing.objects("files")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (BucketSettings("a", prefix="/a"), "single slashes"),
        (BucketSettings("a", prefix="a/../b"), "single slashes"),
        (BucketSettings("a", endpoint="s3.example.com"), "must be a URL"),
    ],
)
def test_invalid_settings_are_rejected(settings: BucketSettings, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Bucket(settings)


async def new_results(files: FileStore, batch_id: str = "batch_a") -> BucketResults:
    batch = {**objects.new_batch(ROUTE, "file-a", None, time.time()), "id": batch_id}
    assert await files.documents.lease(batch_id, 60)
    return BucketResults(files, KEY, batch, TenantLocks().of(KEY[0]))


async def read_file(files: FileStore, file_id: str) -> list[str]:
    return (await whole(await files.open(KEY, file_id))).decode().splitlines()


async def test_results_become_parts_and_another_gateway_continues(
    files: FileStore, bucket_server: BucketServer
) -> None:
    await upload(files, lines(100))
    requests, _ = await read_requests(await files.open(KEY, "file-a"), ROUTE)
    first = await new_results(files)
    assert await first.undone(100) == list(range(100))
    padding = "x" * (RESULTS_PART_BYTES // 10)
    for number in range(0, 60):
        await first.add(number, number % 3 > 0, f"{number} {padding}")
    parts = len(bucket_server.objects())
    assert parts > 8, "most results are in the bucket"
    assert len(await files.documents.all(KEY, "results-batch_a")) < 12, "few results are in documents"
    second = await new_results(files)
    assert await second.undone(100) == list(range(60, 100))
    assert second._batch["request_counts"] == {"total": 0, "completed": 40, "failed": 20}
    await second.add(99, True, "99 ")
    await second.write_files(requests, "cancelled")
    output = await read_file(files, second._batch["output_file_id"])
    errors = await read_file(files, second._batch["error_file_id"])
    assert [line.split()[0] for line in output] == [str(n) for n in range(60) if n % 3] + ["99"]
    assert [line.split()[0] for line in errors[:20]] == [str(n) for n in range(60) if n % 3 == 0]
    unanswered = [json.loads(line) for line in errors[20:]]
    assert [each["custom_id"] for each in unanswered] == [f"r-{n}" for n in range(60, 99)]
    assert {each["error"]["code"] for each in unanswered} == {"batch_cancelled"}
    await second.close()
    assert await files.documents.all(KEY, "progress") == {}
    assert await reap(files.documents, files.bucket, time.time() + REAP_AFTER, REAP_AFTER) == 0  # type: ignore[arg-type]


async def test_parts_written_by_a_gateway_without_the_lease_are_ignored(
    valkey_server: ValkeyServer, bucket: Bucket, bucket_server: BucketServer
) -> None:
    """A gateway that was paused in the middle of a step resumes after another took the batch."""
    client = connect_valkey(valkey_server.url)
    await client.flushall()
    one, two = (FileStore(ValkeyDocumentStore(client, FILES_BYTES, 1.0, FILES_BYTES), bucket) for _ in range(2))
    late = await new_results(one)
    await late.undone(10)
    await late.add(0, True, "0")
    await client.delete("forebay:lease:batch_a")
    other = await new_results(two)
    assert await other.undone(10) == list(range(1, 10))
    with pytest.raises(Lost):
        await late.add(1, True, "x" * 2 * RESULTS_PART_BYTES)
    assert await other.undone(10) == list(range(2, 10)), "its result is stored as a whole"
    requests, _ = await read_requests(TextContent(lines(2).decode()), ROUTE)
    await other.write_files(requests, "completed")
    assert len(await read_file(two, "file-a-output")) == 2
    assert len(bucket_server.objects()) == 2
    assert await reap(two.documents, bucket, time.time() + REAP_AFTER + 60, REAP_AFTER) == 1
    assert len(await read_file(two, "file-a-output")) == 2
    await client.flushall()
    await client.aclose()


async def test_results_become_parts_even_if_the_store_is_full(bucket: Bucket, bucket_server: BucketServer) -> None:
    files = FileStore(MemoryDocumentStore(600, share=1.0, bucket_bytes=FILES_BYTES), bucket)
    requests, _ = await read_requests(TextContent(lines(101).decode()), ROUTE)
    results = await new_results(files)
    await results.undone(101)
    padding = "x" * (RESULTS_PART_BYTES // 20)
    for number in range(100):
        await results.add(number, True, f"{number} {padding}")
    assert 4 <= len(bucket_server.objects()) <= 6, "a few large objects"
    assert await results.undone(101) == [100]
    await results.write_files(requests, "cancelled")
    assert [line.split()[0] for line in await read_file(files, "file-a-output")] == [str(n) for n in range(100)]
    await files.clear(KEY)


async def test_results_are_in_the_output_even_if_the_bucket_is_full(bucket: Bucket) -> None:
    full = FileStore(MemoryDocumentStore(600, share=1.0, bucket_bytes=10), bucket)
    requests, _ = await read_requests(TextContent(lines(2).decode()), ROUTE)
    results = await new_results(full)
    await results.undone(2)
    with pytest.raises(Full):
        await results.add(0, True, "x" * 2 * RESULTS_PART_BYTES)
    await results.write_files(requests, "failed")
    assert len(await read_file(full, "file-a-output")) == 1
    assert results._batch["request_counts"]["completed"] == 1
    await full.clear(KEY)


@pytest.mark.parametrize("there", [0, 1, 2])
async def test_deleting_a_missing_object_succeeds(
    bucket: Bucket, bucket_server: BucketServer, monkeypatch: pytest.MonkeyPatch, there: int
) -> None:
    """Also in a store that answers 404, unlike S3."""
    delete = obstore.delete_async

    async def delete_known(store: S3Store, names: str | list[str]) -> None:
        for name in [names] if isinstance(names, str) else names:
            await obstore.head_async(store, name)
            await delete(store, name)

    monkeypatch.setattr(obstore, "delete_async", delete_known)
    names = ["a", "b", "c"]
    await bucket.put(names[there], b"x")
    await bucket.delete(names)
    assert bucket_server.objects() == []


async def test_objects_without_a_file_are_deleted_later(files: FileStore, bucket_server: BucketServer) -> None:
    assert files.bucket
    await upload(files, b"kept")
    writer = files.writer(KEY, "file-b")  # of a gateway that died
    await writer.write(b"x")
    await writer.finish()
    results = await new_results(files)
    await results.undone(2)
    await results.add(0, True, "x" * 2 * RESULTS_PART_BYTES)
    await files.bucket.put("files/odd", b"")
    assert await reap(files.documents, files.bucket, time.time(), REAP_AFTER) == 0, "it may still be written"
    later = time.time() + REAP_AFTER + 1
    assert await reap(files.documents, files.bucket, later, REAP_AFTER) == 1
    assert await reap(files.documents, files.bucket, later, REAP_AFTER) == 0
    assert await whole(await files.open(KEY, "file-a")) == b"kept"
    await files.documents.clear(KEY)  # as when their time is over
    assert await reap(files.documents, files.bucket, later, REAP_AFTER) == 2
    assert bucket_server.objects() == ["own/files/odd"], "it does not delete objects of others"
