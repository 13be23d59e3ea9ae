"""Whatever clients, objects and pods send, the gateway's readers take it or refuse it, and nothing else happens."""

import json
from contextlib import suppress
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.batches.lines import read_requests
from forebay_gateway.batches.upload import BadUpload, read_upload
from forebay_gateway.body import Fields, read_fields, read_query
from forebay_gateway.directory import Directory
from forebay_gateway.errors import Api, Refused
from forebay_gateway.jobs.submission import BadJob, read_submission, read_ttl, read_wait
from forebay_gateway.keys import Keys
from forebay_gateway.paths import read_path
from forebay_gateway.relay import LONGEST_HEAD, LONGEST_REPLY, LateUpstream, Upstream
from forebay_gateway.watch import watches
from tests.fuzz import fuzzed, json_values
from tests.unit.gateway.relaying import Client, Transport

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
LINE = ("custom_id", "method", "url", "body", "POST", "/v1/chat/completions", "stream")
OBJECT = (
    "replicas", "scaling", "suspend", "auth", "mode", "None", "env", "name", "value", "MAX_CONCURRENCY", "conditions",
    "type", "Ready", "status", "reason", "message", "startup", "step", "percent", "etaSeconds", "models",
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
    assert isinstance(read_fields("application/json", body), Fields)
    assert isinstance(read_query(b"/v1/realtime?" + body), Fields)


@fuzzed
@given(PIECES)
def test_forms(body: bytes) -> None:
    assert isinstance(read_fields(FORM, body), Fields)
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
    requests, errors = await read_requests("\n".join(lines), "/v1/chat/completions")
    assert requests or errors


@fuzzed
@given(method=st.sampled_from(["GET", "POST", "OPTIONS"]), target=st.binary(max_size=60), shared=st.booleans())
def test_paths(method: str, target: bytes, shared: bool) -> None:
    read_path(method, target, shared=shared)
    read_path(method, b"/v2/" + target + b"/openai/v1/models", shared=shared)


@fuzzed
@given(parts=HEADS, web_socket=st.booleans())
async def test_answers_of_pods(parts: list[bytes], web_socket: bool) -> None:
    client = Client()
    for upstream in (Upstream(client, web_socket=web_socket), LateUpstream(client, Api.OPENAI)):
        upstream.transport = cast("Any", Transport())
        for part in parts:
            upstream.data_received(part)
            assert len(upstream._head or b"") <= LONGEST_HEAD + len(part)
        upstream.connection_lost(None)
        error = await upstream.ended
        assert error is None or isinstance(error, Refused)
    if not web_socket and client.sent.startswith(b"HTTP/1.1"):
        assert b"connection: close" in client.sent.partition(b"\r\n\r\n")[0]


async def test_an_answer_that_becomes_an_event_is_bounded() -> None:
    client = Client()
    upstream, transport = LateUpstream(client, Api.OPENAI), Transport()
    upstream.transport = cast("Any", transport)
    while not transport.closed:
        upstream.data_received(b"x" * (LONGEST_REPLY // 10))
    assert len(upstream._received) <= 2 * LONGEST_REPLY


def named(name: str, parts: Any) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "gateway.forebay.dev"}
    metadata = {"namespace": "team", "name": name, "uid": name, "labels": labels}
    return {**(parts if isinstance(parts, dict) else {"spec": parts}), "metadata": metadata}


@fuzzed
@given(
    number=st.integers(0, 18), parts=json_values(*OBJECT, "spec", "data"), again=json_values(*OBJECT, "spec", "data")
)
def test_objects_of_every_kind_that_is_watched(number: int, parts: Any, again: Any) -> None:
    directory, keys = Directory("team"), Keys()
    every = list(watches(directory, keys, "system", ()))
    every[0]._take("ADDED", named("good", {"spec": {"replicas": 2}}))
    before = directory.endpoint(("team", "good"))
    every[number]._take("ADDED", named("bad", parts))
    every[number]._take("MODIFIED", named("bad", again))
    directory.ports(), directory.open(), directory.ready(("team", "bad")), keys.opens("x", ("team", "bad"))
    assert directory.endpoint(("team", "good")) is before
    every[number]._take("DELETED", named("bad", again))
    assert directory.endpoint(("team", "bad")) is None
