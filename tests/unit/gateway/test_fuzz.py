"""The gateway's parsers accept or refuse any input of clients, objects and pods, and have no other effect."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.batches import http_api as batches
from forebay_gateway.batches.contents import TextContent
from forebay_gateway.batches.document_store import MemoryDocumentStore
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.http_api import BatchApi
from forebay_gateway.batches.jsonl import job_input, read_requests, render_result
from forebay_gateway.batches.objects import new_batch, new_file
from forebay_gateway.batches.processor import BatchProcessor
from forebay_gateway.batches.upload import BadUpload, read_upload
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.endpoints.watch import watches
from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.http.body import BodyFields, read_fields, read_query
from forebay_gateway.http.errors import Refused
from forebay_gateway.http.job_operations import OPERATION_METHODS
from forebay_gateway.http.routes import read_path
from forebay_gateway.jobs import http_api as jobs
from forebay_gateway.jobs.http_api import JobApi
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.rate_limits import MemoryRateLimits
from forebay_gateway.jobs.submission import BadJob, read_submission, read_ttl, read_wait
from forebay_gateway.proxy.upstream import MAX_ANSWER_HEAD_BYTES, MAX_EVENT_ANSWER_BYTES, LateUpstream, Upstream
from forebay_protocol.errors import ApiDialect
from tests.fuzz import fuzzed, json_values
from tests.unit.gateway.relaying import Client, connect

FORM = "multipart/form-data; boundary=b"
FIELDS = (
    "model",
    "stream",
    "messages",
    "input",
    "prompt",
    "role",
    "user",
    "system",
    "instructions",
    "prompt_cache_key",
)
JOB = ("input", "policy", "ttl", "executionTimeout", "lowPriority", "webhook", "s3Config", "http://x")
ENDPOINT = ("team", "one")
BATCH = ("endpoint", "/v1/completions", "completion_window", "24h", "input_file_id", "file-x", "metadata")
LINE = ("custom_id", "method", "url", "body", "POST", "/v1/chat/completions", "stream")
OBJECT = (
    "replicas", "scaling", "suspend", "auth", "mode", "None", "env", "name", "value", "MAX_CONCURRENCY", "conditions",
    "type", "Ready", "status", "reason", "message", "startup", "step", "percent", "etaSeconds", "models", "modelsKnown",
    "observedGeneration", "ports", "port", "http", "endpoints", "addresses", "ready", "terminating", "team.bad",
    "digest-key",
)  # fmt: skip

PIECES = st.lists(
    st.sampled_from(
        [b"--b", b"\r\n", b"--", b": ", b'Content-Disposition: form-data; name="model"', b'; filename="x"', b"m", b"\0"]
    )
    | st.binary(max_size=5),
    max_size=30,
).map(b"".join)

HEADS = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 ",
            b"HTTP/1.0 ",
            b"200",
            b"100",
            b"101",
            b"999",
            b" OK",
            b"\r\n",
            b"\n",
            b"\r\n\r\n",
            b"connection: ",
            b"a: b",
        ]
    )
    | st.binary(max_size=6),
    max_size=30,
)


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


@fuzzed
@given(st.binary(max_size=200) | json_values(*FIELDS).map(written))
def test_bodies_of_the_api(body: bytes) -> None:
    assert isinstance(read_fields("application/json", body), BodyFields)
    assert isinstance(read_query(b"/v1/realtime?" + body), BodyFields)


@fuzzed
@given(PIECES)
def test_forms(body: bytes) -> None:
    assert isinstance(read_fields(FORM, body), BodyFields)
    with suppress(BadUpload):
        read_upload(FORM, body)


@fuzzed
@given(body=st.binary(max_size=200) | json_values(*JOB).map(written), sync=st.booleans())
def test_bodies_of_jobs(body: bytes, sync: bool) -> None:
    with suppress(BadJob):
        read_submission(body, sync=sync)
    for read in (read_wait, read_ttl):
        with suppress(BadJob):
            read("wait=" + body.decode("latin-1"))


@fuzzed
@given(st.lists(json_values(*LINE).map(json.dumps) | st.text(max_size=20), max_size=6))
async def test_files_of_batches(lines: list[str]) -> None:
    requests, errors = await read_requests(TextContent("\n".join(lines)), "/v1/chat/completions")
    assert requests or errors
    for number in range(len(requests)):
        assert json.loads(job_input("/v1/chat/completions", await requests.read(number)))["method"] == "POST"


@fuzzed
@given(custom_id=st.text(max_size=20), output=json_values("id", "usage").map(json.dumps), state=st.sampled_from(State))
def test_results_of_batches(custom_id: str, output: str, state: State) -> None:
    submission = read_submission(b'{"input": 1}', sync=False)
    job = Job("job-1", ENDPOINT, submission, "", created=0.0, state=state, output=[output], error=output)
    well, line = render_result(custom_id, job)
    parsed = json.loads(line)
    assert (well, parsed["custom_id"]) == (state is State.COMPLETED, custom_id)
    assert not well or parsed["response"]["body"] == json.loads(output)


QUERIES = st.lists(
    st.sampled_from(["limit=", "after=", "order=", "purpose=", "ttl=", "wait=", "&", "9" * 400, "file-x", "-1", "asc"])
    | st.text(max_size=4),
    max_size=6,
).map("".join)


@fuzzed
@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    parts=st.lists(
        st.sampled_from(["files", "batches", "cancel", "content", "file-x", "batch-x"]) | st.text(max_size=5),
        max_size=4,
    ),
    query=QUERIES,
    content_type=st.sampled_from([FORM, "application/json"]),
    body=PIECES | json_values(*BATCH).map(written),
)
async def test_requests_about_files_and_batches(
    method: str, parts: list[str], query: str, content_type: str, body: bytes
) -> None:
    documents, store = MemoryDocumentStore(1 << 20), MemoryJobStore(1 << 20)
    api = BatchApi(
        FileStore(documents),
        BatchProcessor(FileStore(documents), store, KeyCipher(lambda: b"secret"), FairScheduler(), Quota(1 << 20)),
        Quota(1 << 20),
        FairScheduler(),
    )
    for kind, name, record in (
        ("file", "file-x", new_file("x", "batch", 1, 0.0, file_id="file-x")),
        ("batch", "batch-x", {**new_batch("/v1/completions", "file-x", None, 0.0), "id": "batch-x"}),
    ):
        await documents.put(ENDPOINT, kind, name, json.dumps(record), 60)
    with suppress(Refused):
        await api.answer(batches.BatchApiCall(ENDPOINT, method, tuple(parts), query, content_type, "key", body))
    await documents.clear(ENDPOINT)


@fuzzed
@given(
    method=st.sampled_from(["GET", "POST"]),
    operation=st.sampled_from(sorted(OPERATION_METHODS.keys() - {"runsync"})),
    job_id=st.text(max_size=8),
    query=QUERIES,
    body=st.binary(max_size=50) | json_values(*JOB).map(written),
)
async def test_requests_about_jobs(method: str, operation: str, job_id: str, query: str, body: bytes) -> None:
    directory, store = Directory("team"), MemoryJobStore(1 << 20)
    every = list(watches(directory, KeyAuthorizer(), "system", ()))
    every[0]._handle_event("ADDED", named("one", {"spec": {"replicas": 2}}))
    with suppress(Refused):
        api = JobApi(store, directory, Quota(1 << 20), FairScheduler(), MemoryRateLimits())
        await api.answer(jobs.JobApiCall(ENDPOINT, method, operation, job_id, query, "key", body))
    await store.forget(ENDPOINT)


@fuzzed
@given(method=st.sampled_from(["GET", "POST", "OPTIONS"]), target=st.binary(max_size=60), shared=st.booleans())
def test_paths(method: str, target: bytes, shared: bool) -> None:
    read_path(method, target, shared=shared)
    read_path(method, b"/v2/" + target + b"/openai/v1/models", shared=shared)


@fuzzed
@given(parts=HEADS, web_socket=st.booleans())
async def test_answers_of_pods(parts: list[bytes], web_socket: bool) -> None:
    client = Client()
    for upstream in (Upstream(client, web_socket=web_socket), LateUpstream(client, ApiDialect.OPENAI)):
        connect(upstream)
        for part in parts:
            upstream.data_received(part)
            assert len(upstream._head) <= MAX_ANSWER_HEAD_BYTES + len(part)
        upstream.connection_lost(None)
        error = await upstream.ended
        assert error is None or isinstance(error, Refused)
    if not web_socket and client.sent.startswith(b"HTTP/1.1"):
        assert b"connection: close" in client.sent.partition(b"\r\n\r\n")[0]


async def test_an_answer_that_becomes_an_event_is_bounded() -> None:
    client = Client()
    upstream = LateUpstream(client, ApiDialect.OPENAI)
    transport = connect(upstream)
    while not transport.closed:
        upstream.data_received(b"x" * (MAX_EVENT_ANSWER_BYTES // 10))
    assert len(upstream._received) <= 2 * MAX_EVENT_ANSWER_BYTES


def named(name: str, parts: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "gateway.forebay.dev"}
    metadata = {"namespace": "team", "name": name, "uid": name, "labels": labels}
    return {**(parts if isinstance(parts, dict) else {"spec": parts}), "metadata": metadata}


@fuzzed
@given(
    number=st.integers(0, 18), parts=json_values(*OBJECT, "spec", "data"), again=json_values(*OBJECT, "spec", "data")
)
def test_objects_of_every_kind_that_is_watched(number: int, parts: Any, again: Any) -> None:
    directory, keys = Directory("team"), KeyAuthorizer()
    every = list(watches(directory, keys, "system", ()))
    every[0]._handle_event("ADDED", named("good", {"spec": {"replicas": 2}}))
    before = directory.endpoint(("team", "good"))
    every[number]._handle_event("ADDED", named("bad", parts))
    every[number]._handle_event("MODIFIED", named("bad", again))
    directory.ports(), directory.open(), directory.ready(("team", "bad")), keys.authorizes("x", ("team", "bad"))
    assert directory.endpoint(("team", "good")) is before
    every[number]._handle_event("DELETED", named("bad", again))
    assert directory.endpoint(("team", "bad")) is None
