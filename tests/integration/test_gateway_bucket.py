"""Files in a bucket: a real gateway before a stand-in for S3. The gateway never has more than parts of a large file in
its memory, and an interrupted transfer leaves no object."""

import http.client
import itertools
import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.integration.bucket_server import BucketServer
from tests.integration.canned_pod import Exchange
from tests.integration.faulty_proxy import Cut, FaultyProxy, Refusal, Rule
from tests.integration.gateway_process import KEY, Gateway, namespaced_gateway, running_gateway
from tests.integration.job_pods import finish
from tests.integration.openai_calls import ready_pod, send
from tests.integration.test_gateway_batches import CHAT, becomes, begin, requests
from tests.integration.valkey_process import ValkeyServer
from tests.kubectl import Kubectl, wait_for

MB = 1_000_000
MIB = 1 << 20
MAX_FILE_BYTES = 70 * MIB
"""Bytes of one file at this gateway, so that the tests need not send more."""

FORM = ("--x", 'Content-Disposition: form-data; name="purpose"', "", "batch", "--x")
FORM_START = "\r\n".join((*FORM, 'Content-Disposition: form-data; name="file"; filename="a"', "", "")).encode()
FORM_END = b"\r\n--x--\r\n"


@pytest.fixture(scope="module")
def proxy(bucket_server: BucketServer) -> Iterator[FaultyProxy]:
    """Before the bucket; it does what a test says."""
    with FaultyProxy(bucket_server.url).running() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def gateway(
    control_plane: Kubectl,
    valkey_server: ValkeyServer,
    proxy: FaultyProxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    log, limits = tmp_path_factory.mktemp("gateway") / "log", {"body_seconds": 30, "bucket_seconds": 2}
    url = f"http://127.0.0.1:{proxy.port}"
    with namespaced_gateway(control_plane, log, valkey_server.url, url, file_bytes=MAX_FILE_BYTES, **limits) as running:
        yield running


@pytest.fixture
def bucket(bucket_server: BucketServer) -> BucketServer:
    """With nothing in it."""
    bucket_server.empty()
    return bucket_server


def padded(size: int) -> bytes:
    """An input file of so many bytes at least."""
    (line,) = requests(1).splitlines()
    content = json.loads(line)
    content["body"]["padding"] = "x" * 100_000
    lines: list[bytes] = []
    while len(lines) * 100_000 < size:
        lines.append(json.dumps({**content, "custom_id": f"request-{len(lines)}"}).encode())
    return b"\n".join(lines)


def peak_memory(gateway: Gateway) -> int:
    """The most bytes that the gateway's process ever had in memory."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    (size,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(size) << 10


def reset_peak(gateway: Gateway) -> None:
    """Count the peak from now on (proc(5), clear_refs)."""
    Path(f"/proc/{gateway.process.pid}/clear_refs").write_text("5")


def start_upload(gateway: Gateway, name: str, *headers: str) -> socket.socket:
    """A connection with the head of an upload and the beginning of its form; the file is to follow."""
    opened = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    lines = (
        f"POST /v2/{gateway.prefix}{name}/openai/v1/files HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {KEY}",
        "Content-Type: multipart/form-data; boundary=x",
        *headers,
    )
    opened.sendall("\r\n".join((*lines, "", "")).encode())
    return opened


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer_of(opened: socket.socket) -> tuple[int, Any]:
    """Status and body."""
    answer = http.client.HTTPResponse(opened)
    answer.begin()
    return answer.status, json.loads(answer.read())


def test_a_file_of_64_mib_is_streamed_in_parts(gateway: Gateway, bucket: BucketServer) -> None:
    gateway.endpoint("large")
    client = gateway.client(gateway.url("large"))
    client.files.create(file=("small", b"{}"), purpose="batch")  # with whatever the first one needs
    content = padded(64 * MIB)
    reset_peak(gateway)
    before = peak_memory(gateway)
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    assert (file.bytes, file.filename) == (len(content), "in.jsonl")
    assert len(bucket.objects()) >= len(content) // (8 * MIB)
    assert bucket.uploads() == 0
    assert client.files.content(file.id).content == content
    path = f"/v2/{gateway.prefix}large/openai/v1/files/{file.id}/content"
    status, headers, body = send(gateway.port, "HEAD", path)
    assert (status, headers["content-length"], body) == (200, str(len(content)), b"")
    used = peak_memory(gateway) - before
    assert used < 40 * MIB, f"{used / MIB:.0f} MiB for a file of {len(content) / MIB:.0f}"
    assert client.files.delete(file.id).deleted
    assert len(bucket.objects()) == 1


def test_a_client_that_does_not_read_pauses_the_download(gateway: Gateway, bucket: BucketServer) -> None:
    gateway.endpoint("slow")
    client = gateway.client(gateway.url("slow"))
    content = padded(64 * MIB)
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    wait_for(lambda: gateway.metric("forebay_gateway_kept_bytes") == 0, "no memory is in use")
    reset_peak(gateway)
    before = peak_memory(gateway)
    with client.files.with_streaming_response.content(file.id) as answer:
        wait_for(lambda: gateway.metric("forebay_gateway_kept_bytes") > 0, "the gateway waits for the client")
        assert peak_memory(gateway) - before < 20 * MIB
        assert answer.headers["content-length"] == str(len(content))
        assert b"".join(answer.iter_bytes()) == content, "the client gets the whole file"


def test_a_failing_bucket_ends_the_download(gateway: Gateway, proxy: FaultyProxy, bucket: BucketServer) -> None:
    """The client sees that it has not all of it."""
    gateway.endpoint("reading")
    file = gateway.client(gateway.url("reading")).files.create(file=("a", padded(20 * MIB)), purpose="batch")
    counter = itertools.count()

    def rule(asked: Any) -> Refusal | None:
        return Refusal(500, "InternalError") if asked.method == "GET" and next(counter) >= 4 else None

    path = f"/v2/{gateway.prefix}reading/openai/v1/files/{file.id}/content"
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    proxy.rule = rule
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        answer = connection.getresponse()
        assert answer.status == 200
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            answer.read()
        with pytest.raises(openai.InternalServerError, match="does not answer"):
            gateway.client(gateway.url("reading")).files.content(file.id)
    finally:
        proxy.rule = lambda _: None
        connection.close()


@pytest.mark.soak
def test_a_file_of_200_mb_is_streamed_in_parts(
    control_plane: Kubectl, valkey_server: ValkeyServer, bucket: BucketServer, tmp_path: Path
) -> None:
    """With the limits as they are by default."""
    content = padded(220_000_000)[: 200 * MIB]
    with namespaced_gateway(control_plane, tmp_path / "log", valkey_server.url, bucket.url, body_seconds=60) as gateway:
        gateway.endpoint("largest")
        client = gateway.client(gateway.url("largest"))
        client.files.create(file=("small", b"{}"), purpose="batch")
        before = peak_memory(gateway)
        with pytest.raises(openai.APIStatusError, match="209715200 bytes"):
            client.files.create(file=("in.jsonl", content + b"x" * MIB), purpose="batch")
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        with client.files.with_streaming_response.content(file.id) as answer:
            read = sum(len(piece) for piece in answer.iter_bytes())
        assert (file.bytes, read) == (200 * MIB, 200 * MIB)
        assert peak_memory(gateway) - before < 60 * MIB
        done = becomes(
            client, client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h"), "failed"
        )
        assert done.errors, "the last line is cut"
        assert done.errors.data
        assert done.errors.data[0].code == "invalid_json_line"
        assert peak_memory(gateway) - before < 60 * MIB


def test_without_a_bucket_a_file_of_40_mb_is_rejected_with_a_remedy(control_plane: Kubectl, tmp_path: Path) -> None:
    with namespaced_gateway(control_plane, tmp_path / "log", body_seconds=30) as gateway:
        gateway.endpoint("small")
        client = gateway.client(gateway.url("small"))
        for content in (b"x" * 40 * MB, b"x" * 201 * MIB):
            with pytest.raises(openai.APIStatusError) as caught:
                client.files.create(file=("in.jsonl", content), purpose="batch")
            assert caught.value.status_code == 413
            for named in ("33554432", "body_bytes", "gateway.files.s3.bucket", "209715200"):
                assert named in caught.value.message


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_that_is_too_large_is_rejected_and_leaves_no_object(
    gateway: Gateway, bucket: BucketServer, declared: bool
) -> None:
    gateway.endpoint("toolarge")
    size = f"Content-Length: {MAX_FILE_BYTES + 10 * MIB}" if declared else "Transfer-Encoding: chunked"
    with start_upload(gateway, "toolarge", size) as opened:
        if not declared:
            opened.sendall(chunk(FORM_START))
            for _ in range(MAX_FILE_BYTES // MIB):
                opened.sendall(chunk(b"x" * MIB))
            assert bucket.objects()
            opened.sendall(chunk(b"x" * 100))
        status, content = answer_of(opened)
    assert status == 413
    assert f"{MAX_FILE_BYTES} bytes" in content["error"]["message"]
    assert "file_bytes in gateway.settings" in content["error"]["message"]
    assert bucket.objects() == []


def test_an_interrupted_upload_leaves_no_object(gateway: Gateway, bucket: BucketServer) -> None:
    gateway.endpoint("broken")
    with start_upload(gateway, "broken", "Transfer-Encoding: chunked") as opened:
        opened.sendall(chunk(FORM_START) + chunk(b"x" * 9 * MIB))
        wait_for(lambda: bool(bucket.objects()), "a part is written")
    wait_for(lambda: not bucket.objects(), "no object is left")
    assert list(gateway.client(gateway.url("broken")).files.list()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (FORM_START + b"x" * 9 * MIB + b"\xff" + FORM_END, "UTF-8"),
        (FORM_START.replace(b"batch", b"assistants") + b"x" * 9 * MIB + FORM_END, "purpose must be batch"),
        (FORM_START + FORM_END[:5] + FORM_START[3:] + FORM_END, "more than one file"),
        (FORM_START + b"x" * 9 * MIB, "has no end"),
        (FORM_START.replace(b'"file"', b'"other"') + b"x" * 9 * MIB + FORM_END, "has no file"),
        (FORM_START.replace(b'"file"', b'"other"') + FORM_END, "no file"),
    ],
)
def test_an_invalid_form_is_rejected_and_leaves_no_object(
    gateway: Gateway, bucket: BucketServer, content: bytes, said: str
) -> None:
    gateway.endpoint("wrong")
    with start_upload(gateway, "wrong", f"Content-Length: {len(content)}") as opened:
        opened.sendall(content)
        status, answered = answer_of(opened)
    assert (status, said in answered["error"]["message"]) == (400, True), answered
    assert bucket.objects() == []


def failing_put(number: int, how: Cut | Refusal) -> Rule:
    """From the n-th write of an object on all fail in this way; deletions do not."""
    seen: set[str] = set()

    def rule(asked: Any) -> Cut | Refusal | None:
        if asked.method != "PUT":
            return None
        seen.add(asked.path)
        return how if len(seen) >= number else None

    return rule


@pytest.mark.parametrize("how", [Refusal(500, "InternalError"), Refusal(503, "SlowDown"), Cut.BEFORE, Cut.AFTER])
def test_a_failing_bucket_is_503_and_leaves_no_object(
    gateway: Gateway, proxy: FaultyProxy, bucket: BucketServer, how: Cut | Refusal
) -> None:
    gateway.endpoint("failing")
    client = gateway.client(gateway.url("failing"))
    before = list(client.files.list())
    proxy.rule = failing_put(2, how)
    try:
        with pytest.raises(openai.InternalServerError, match="does not answer") as caught:
            client.files.create(file=("in.jsonl", padded(20 * MIB)), purpose="batch")
    finally:
        proxy.rule = lambda _: None
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"]
    wait_for(lambda: not bucket.objects(), "no object is left")
    assert list(client.files.list()) == before
    assert client.files.create(file=("in.jsonl", b"{}"), purpose="batch").bytes == 2, "it continues"


def test_a_bucket_that_does_not_answer_gives_503(gateway: Gateway, bucket: BucketServer) -> None:
    gateway.endpoint("stopped")
    client = gateway.client(gateway.url("stopped"))
    file = client.files.create(file=("in.jsonl", b"{}"), purpose="batch")
    bucket.process.send_signal(signal.SIGSTOP)
    try:
        for ask in (
            lambda: client.files.create(file=("in.jsonl", b"{}"), purpose="batch"),
            lambda: client.files.content(file.id),
        ):
            with pytest.raises(openai.InternalServerError, match="does not answer"):
                ask()
    finally:
        bucket.process.send_signal(signal.SIGCONT)
    assert client.files.content(file.id).content == b"{}"


def test_an_endpoint_that_is_removed_leaves_no_object(gateway: Gateway, bucket: BucketServer) -> None:
    gateway.endpoint("removed")
    gateway.client(gateway.url("removed")).files.create(file=("in.jsonl", b"{}"), purpose="batch")
    (name,) = bucket.objects()
    assert f"/{gateway.kubectl.namespace}/removed/file-" in name
    gateway.kubectl.run("delete", "iep", "removed")
    wait_for(lambda: not bucket.objects(), "its objects are deleted")


@pytest.fixture
def stopped(gateway: Gateway) -> Iterator[None]:
    """The module's gateway takes no batch of other gateways with the same Valkey."""
    gateway.process.send_signal(signal.SIGSTOP)
    yield
    gateway.process.send_signal(signal.SIGCONT)


@pytest.mark.usefixtures("stopped")
def test_a_batch_in_the_bucket_survives_its_gateways(
    control_plane: Kubectl, valkey_server: ValkeyServer, bucket: BucketServer, tmp_path: Path
) -> None:
    """Each line is in the output once, whichever gateway wrote the part that it is in."""
    stores: dict[str, Any] = {"valkey_url": valkey_server.url, "bucket_url": bucket.url}
    with ExitStack() as stack:
        first = stack.enter_context(namespaced_gateway(control_plane, tmp_path / "one", **stores, body_seconds=30))
        first.endpoint("outliving")
        pod = stack.enter_context(ready_pod(first, "outliving"))

        async def answer_at_length(exchange: Exchange) -> None:
            question = json.loads(await exchange.read_body())["input"]["body"]["messages"][0]["content"]
            await finish(exchange, {"text": question, "padding": "x" * 60_000})

        pod.answer = answer_at_length
        with running_gateway(first.kubectl, first.system, tmp_path / "two", body_seconds=30, **stores) as second:
            first.process.send_signal(signal.SIGSTOP)  # so that it is the other's
            client = second.client(second.url("outliving"))
            batch = begin(client, requests(300))
            wait_for(lambda: any("-output/" in name for name in bucket.objects()), "a part of the output is written")
            second.process.kill()
            first.process.send_signal(signal.SIGCONT)
        client = first.client(first.url("outliving"))
        done = becomes(client, batch, "completed")
        assert done.output_file_id
        lines = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
        assert len(lines) == 300, "no result exists twice"
        assert {line["custom_id"]: line["response"]["body"]["text"] for line in lines} == {
            f"request-{number}": f"Question {number}" for number in range(300)
        }
        assert done.request_counts
        assert (done.request_counts.completed, done.error_file_id) == (300, None)
