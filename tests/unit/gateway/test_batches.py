"""Batches: the content of an input file, the fields of answers, and the upload of a file."""

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from forebay_gateway.batches.bucket import Bucket
from forebay_gateway.batches.contents import PART_BYTES, FileWriter, TextContent
from forebay_gateway.batches.document_store import MemoryDocumentStore
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.http_api import BatchApi, BatchApiCall
from forebay_gateway.batches.jsonl import (
    LineBounds,
    Request,
    job_input,
    read_requests,
    render_result,
    render_unanswered,
)
from forebay_gateway.batches.objects import new_batch, new_file, page
from forebay_gateway.batches.upload import BadUpload, max_upload_seconds, read_upload, receive_upload
from forebay_gateway.fairness.quotas import TEXT_OVERHEAD, Quota, memory_of, memory_of_utf8
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.http.body_stream import BodyStream
from forebay_gateway.http.errors import Refused
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.submission import read_submission
from forebay_gateway.settings import MIB
from tests.waiting import until

CHAT = "/v1/chat/completions"
EXPIRES = "expires_after[seconds]"
BODY = {"model": "org/model", "messages": []}


def line(**changed: Any) -> str:
    return json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": BODY, **changed})


async def test_requests_are_read() -> None:
    content = line() + "\n\n" + line(custom_id="b") + "\r\n"
    text = json.dumps(BODY)
    requests, errors = await read_requests(TextContent(content), CHAT)
    assert ([await requests.read(number) for number in range(len(requests))], errors) == (
        [Request("a", text), Request("b", text)],
        [],
    )
    odd = json.dumps({**BODY, "x": "a\u2028b"}, ensure_ascii=False)
    found, _ = await read_requests(TextContent(line().replace(text, odd)), CHAT)
    assert len(found) == 1, "a line separator is no new line"
    asked = {"route": CHAT, "method": "POST", "whole_answer": True, "body": BODY}
    assert json.loads(job_input(CHAT, Request("a", text))) == asked


@pytest.mark.parametrize(
    ("content", "code", "number"),
    [
        ("", "empty_file", None),
        ("\n \n", "empty_file", None),
        ("{", "invalid_json_line", 1),
        ("[]", "invalid_json_line", 1),
        ("[" * 100_000, "invalid_json_line", 1),
        (line() + "\n" + line(), "duplicate_custom_id", 2),
        (line(custom_id=None), "missing_required_parameter", 1),
        (line(custom_id=3), "missing_required_parameter", 1),
        (line(method="GET"), "invalid_method", 1),
        (line(url="/v1/embeddings"), "invalid_url", 1),
        (line(body="x"), "missing_required_parameter", 1),
        (line(body={"stream": True}), "invalid_request", 1),
        (line(body=[1]), "missing_required_parameter", 1),
        (line() + "\n" + line(custom_id="b").replace("}}", "}, x}"), "invalid_json_line", 2),
        ("\n".join(line(custom_id=str(number)) for number in range(50_001)), "too_many_requests", None),
        (line() + "\n" * 100_001, "too_many_lines", None),
    ],
)
async def test_errors_of_an_input_file_are_reported_by_line(content: str, code: str, number: int | None) -> None:
    (error,) = (await read_requests(TextContent(content), CHAT))[1]
    assert (error["code"], error["line"]) == (code, number)
    assert error["message"]


@pytest.mark.parametrize("content", ["1\n" * (4 << 20), "\n" * (8 << 20), "[[],[]]\n" * (1 << 20)])
async def test_an_invalid_input_file_is_not_read_further(content: str) -> None:
    turns = 0

    async def callback() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(callback())
    began = time.process_time()
    _, errors = await read_requests(TextContent(content), CHAT)
    other.cancel()
    assert 0 < len(errors) <= 50
    assert time.process_time() - began < 2


async def test_other_tasks_run_while_an_input_file_is_read() -> None:
    content = "\n".join(line(custom_id=str(number)) for number in range(20_000))
    reading = asyncio.create_task(read_requests(TextContent(content), CHAT))
    longest = 0.0
    while not reading.done():
        began = time.process_time()
        await asyncio.sleep(0)
        longest = max(longest, time.process_time() - began)
    assert len((await reading)[0]) == 20_000
    assert longest < 0.1


async def test_a_line_whose_job_is_too_large_is_reported() -> None:
    """By its size in memory: an emoji makes each character take four bytes."""
    plain, wide = ({"prompt": "x" * 100_000 + end} for end in ("", "\N{GRINNING FACE}"))
    content = "\n".join(
        json.dumps({"custom_id": f"r-{number}", "method": "POST", "url": CHAT, "body": body}, ensure_ascii=False)
        for number, body in enumerate([plain, wide])
    )
    (error,) = (await read_requests(TextContent(content), CHAT, LineBounds(input=200_000)))[1]
    assert (error["code"], error["line"]) == ("line_too_large", 2)
    assert "jobs_bytes" in error["message"]
    assert (await read_requests(TextContent(content), CHAT, LineBounds(input=500_000)))[1] == []


async def test_a_large_line_is_checked_as_bytes_in_a_long_step() -> None:
    content = TextContent(json.dumps(json.loads(line(body={"prompt": "x" * (8 << 20) + "😀"})), ensure_ascii=False))
    steps: list[None] = []

    @asynccontextmanager
    async def long_step() -> AsyncIterator[None]:
        steps.append(None)
        yield

    tracemalloc.start()
    try:
        _, errors = await read_requests(content, CHAT, long_step=long_step)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (errors, len(steps)) == ([], 1)
    assert peak < 24 << 20, f"{peak} bytes"


@pytest.mark.parametrize("text", ["", "abc", "aüé", "a\u0100z", "漢字", "x\N{GRINNING FACE}", "ÿ" * 1000])
def test_the_memory_of_a_text_is_computed_from_its_bytes(text: str) -> None:
    assert memory_of(text) <= memory_of_utf8(text.encode()) <= memory_of(text) + TEXT_OVERHEAD


def test_results_have_openais_format() -> None:
    submission = read_submission(b'{"input": 1}', sync=False)
    job = Job("job-1", ("home", "one"), submission, "", created=0.0, state=State.COMPLETED, output=['{"id": "x"}'])
    well, rendered = render_result("a", job)
    found = json.loads(rendered)
    assert well
    assert found.pop("id").startswith("batch_req_")
    answer = {"status_code": 200, "request_id": "job-1", "body": {"id": "x"}}
    assert found == {"custom_id": "a", "response": answer, "error": None}
    job.output = ['{"status_code": 200, "body": {"id": "x"}}']
    assert json.loads(render_result("a", job)[1])["response"] == answer
    error = {"error": {"message": "no such model", "code": "model_not_found"}}
    job.output = [json.dumps({"status_code": 404, "body": error})]
    well, rendered = render_result("a", job)
    found = json.loads(rendered)
    assert (well, found["error"]) == (False, None)
    assert found["response"] == {"status_code": 404, "request_id": "job-1", "body": error}
    job.state, job.error = State.FAILED, "no such model"
    well, rendered = render_result("a", job)
    assert (well, json.loads(rendered)["error"]) == (False, {"code": "failed", "message": "no such model"})
    assert json.loads(render_result("a", None)[1])["error"]["code"] == "job_gone"
    assert json.loads(render_unanswered("a", "expired"))["error"]["code"] == "batch_expired"


@pytest.mark.parametrize(
    "output",
    ['{"status_code": 200}', '{"status_code": -5, "body": 1}', '{"status_code": 99999999999, "body": 1}', "[]"],
)
def test_an_output_that_is_not_a_complete_response_becomes_the_body(output: str) -> None:
    submission = read_submission(b'{"input": 1}', sync=False)
    job = Job("job-1", ("home", "one"), submission, "", created=0.0, state=State.COMPLETED, output=[output])
    assert json.loads(render_result("a", job)[1])["response"]["body"] == json.loads(output)


async def test_a_byte_order_mark_is_no_error() -> None:
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"input": "Hi"}})
    requests, errors = await read_requests(TextContent(f"\ufeff{line}\n"), "/v1/embeddings")
    assert (errors, len(requests), (await requests.read(0)).custom_id) == ([], 1, "a")


def test_lists_are_returned_page_by_page() -> None:
    files = [{**new_file("f", "batch", 0, now), "id": f"file-{now}"} for now in range(5)]
    first = page(files, "", 2)
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (["file-4", "file-3"], True)
    assert (first["first_id"], first["last_id"]) == ("file-4", "file-3")
    last = page(files, "file-1", 2)
    assert ([each["id"] for each in last["data"]], last["has_more"]) == (["file-0"], False)
    assert page(files, "none", 2)["data"] == []
    assert page(files, "", 9, ascending=True)["data"][0]["id"] == "file-0"


def test_a_batch_has_openais_fields() -> None:
    batch = new_batch(CHAT, "file-1", {"a": "b"}, 10.0)
    assert (batch["status"], batch["expires_at"], batch["metadata"]) == ("validating", 10 + 86400, {"a": "b"})
    assert batch["cancelled_at"] is None


def form(*parts: tuple[str, bytes]) -> bytes:
    lines = [b"--x\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (name.encode(), text) for name, text in parts]
    return b"".join(lines) + b"--x--\r\n"


def test_an_upload_is_read() -> None:
    body = form(('name="purpose"', b"batch"), ('name="file"; filename="in.jsonl"', b'{"a": "\xc3\xbc"}\n'))
    found = read_upload("multipart/form-data; boundary=x", body)
    assert (found.filename, found.purpose, found.decode(), found.retention) == (
        "in.jsonl",
        "batch",
        '{"a": "ü"}\n',
        None,
    )
    kept = form(('name="file"', b"x"), (f'name="{EXPIRES}"', b"3600"))
    assert read_upload("multipart/form-data; boundary=x", kept).retention == 3600


@pytest.mark.parametrize("size", [3 << 20, 32 << 20])
def test_a_large_file_is_read(size: int) -> None:
    body = form(('name="purpose"', b"batch"), ('name="file"', b"x" * size))
    assert len(read_upload("multipart/form-data; boundary=x", body).content) == size


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/json", b"{}", "multipart/form-data"),
        ("multipart/form-data", b"{}", "cannot be read"),
        ("multipart/form-data; boundary=x", b"", "cannot be read"),
        ("multipart/form-data; boundary=x", b"nothing of it", "cannot be read"),
        ("multipart/form-data; boundary=x", form(('name="purpose"', b"batch")), "no file"),
        ("multipart/form-data; boundary=x", form(('name="file"', b"\xff\xfe")), "UTF-8"),
        ("multipart/form-data; boundary=x", form(('name="file"', b"a"), ('name="file"', b"b")), "more than one file"),
        (
            "multipart/form-data; boundary=x",
            form(('name="file"', b""), ('name="expires_after[seconds]"', b"x")),
            "number",
        ),
        (
            "multipart/form-data; boundary=x",
            form(('name="file"', b""), ('name="expires_after[seconds]"', b"9" * 5000)),
            "longer",
        ),
        ("multipart/form-data; boundary=x", form(('name="file"', b""), ('name="purpose"', b"x" * 513)), "purpose"),
        ("multipart/form-data; boundary=x", form(*[('name="x"', b"")] * 17), "more than 16 parts"),
    ],
)
async def test_an_invalid_upload_is_rejected(content_type: str, body: bytes, said: str) -> None:
    """Complete, and while it arrives, as without and with a bucket."""
    with pytest.raises(BadUpload, match=said):
        read_upload(content_type, body).decode()
    stream = BodyStream(lambda: None, lambda: None)
    stream.feed(body)
    stream.end()
    with pytest.raises(BadUpload, match=said):
        await receive_upload(content_type, stream, FileWriter(cast(Bucket, _Objects()), "files"), MIB)


class _Objects:
    """The objects of a bucket."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    async def put(self, name: str, data: bytes) -> None:
        self.names.add(name)

    async def delete(self, names: list[str]) -> None:
        self.names.difference_update(names)


async def test_an_upload_that_takes_too_long_leaves_no_file() -> None:
    """The reaper would delete the objects of a longer upload as a dead gateway's."""
    stored = _Objects()
    files = FileStore(MemoryDocumentStore(MIB, bucket_bytes=MIB), cast(Bucket, stored))
    api = BatchApi(files, cast(Any, None), Quota(MIB), FairScheduler(), max_file_bytes=1 << 30, upload_seconds=0.05)
    body = BodyStream(lambda: None, lambda: None)
    body.feed(form(('name="file"', b"x" * (PART_BYTES + MIB)))[:-10])
    call = BatchApiCall(("home", "one"), "POST", ("files",), "", "multipart/form-data; boundary=x", "", body)
    answer = asyncio.create_task(api.answer(call))
    await until(lambda: bool(stored.names))
    with pytest.raises(Refused, match="did not arrive in time"):
        await answer
    assert stored.names == set()


def test_the_longest_upload_follows_the_settings() -> None:
    assert max_upload_seconds(200 * MIB, body_seconds=60, bucket_seconds=30) == 3600
    assert max_upload_seconds(2000 * MIB, body_seconds=600, bucket_seconds=30) == 252 * 660
