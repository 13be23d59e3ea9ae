"""Jobs: accepted requests, the order of states, and the fields of answers."""

import json
from typing import Any

import pytest

from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.endpoints.watch import watches
from forebay_gateway.fairness.quotas import Quota, Reservation
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.http.errors import Refused
from forebay_gateway.http.job_operations import read_operation
from forebay_gateway.jobs.http_api import JobApi, JobApiCall
from forebay_gateway.jobs.job import (
    MAX_USAGE_SEARCH_LENGTH,
    Job,
    State,
    describe_job,
    describe_stream,
    new_job_id,
    render,
)
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.rate_limits import MemoryRateLimits
from forebay_gateway.jobs.submission import BadJob, Submission, read_submission, read_ttl, read_wait
from forebay_protocol.job_fields import UNSUPPORTED_JOB_FIELDS

KEY = ("home", "one")


def submission(**content: Any) -> Submission:
    return read_submission(json.dumps({"input": {"prompt": "Hi"}, **content}).encode(), sync=False)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("run", "run"),
        ("status/abc", "status/abc"),
        ("purge-queue", "purge-queue"),
        ("status-sync/job-1", "status-sync/job-1"),
        ("status-sync", ""),
        ("health", "health"),
        ("status", ""),
        ("status/", ""),
        ("status/a/b", ""),
        ("status/a:output", ""),
        ("status/batch_1-2", "status/batch_1-2"),
        ("run/abc", ""),
        ("run/", ""),
        ("sleep", ""),
    ],
)
def test_operations(path: str, read: str) -> None:
    assert read_operation(path) == read


def test_defaults_of_a_submission() -> None:
    found = submission()
    assert (json.loads(found.input), found.timeout, found.ttl, found.retention, found.low) == (
        {"prompt": "Hi"},
        600,
        86400,
        1800,
        False,
    )
    assert read_submission(b'{"input": "x"}', sync=True).retention == 60
    assert read_submission(b'{"input": {}}', sync=True).input == "{}"
    assert read_submission(b'\xef\xbb\xbf{"input": {}}', sync=True).input == "{}", "after a byte order mark"


def test_a_policy() -> None:
    found = submission(policy={"executionTimeout": 5000, "ttl": 10_000, "lowPriority": True})
    assert (found.timeout, found.ttl, found.low) == (5, 10, True)


def test_null_or_empty_options_are_ignored() -> None:
    policy = {"executionTimeout": None, "ttl": None, "lowPriority": None}
    assert submission(policy=policy, webhook="", s3Config={}) == submission(policy=None, webhook=None, s3Config=None)
    assert read_submission(b'{"input": 1, "s3Config": { }, "policy": { }}', sync=False).webhook == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://user:p%40ss@example.com:8080/x?y=z",
        "https://[2001:db8::1]:8443/x",
        "http://xn--bcher-kva.example/",
        "http://example.com./",
        " http://exa_mple.com/ ",
    ],
)
def test_a_webhook_is_any_url_of_http(url: str) -> None:
    assert submission(webhook=url).webhook == url.strip()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "input"),
        (b'{"input": ' + b"[" * 100_000, "not JSON"),
        (b'{"input": 1, "policy": [' + b"1," * 10_000 + b"1]}", "policy is longer"),
        (b"[]", "input"),
        (b"{}", "input"),
        (b'{"input": null}', "input"),
        (b'{"input": 1, "policy": 3}', "policy"),
        (b'{"input": 1, "policy": {"executionTimeout": 4999}}', "executionTimeout"),
        (b'{"input": 1, "policy": {"executionTimeout": true}}', "executionTimeout"),
        (b'{"input": 1, "policy": {"executionTimeout": NaN}}', "not JSON"),
        (b'{"input": 1, "policy": {"ttl": "1"}}', "ttl"),
        (b'{"input": 1, "policy": {"ttl": 1' + b"0" * 400 + b"}}", "ttl"),
        (b'{"input": 1, "policy": {"lowPriority": 1}}', "lowPriority"),
        (b'{"input": 1, "s3Config": {"accessId": "x"}}', UNSUPPORTED_JOB_FIELDS["s3Config"]),
        (b'{"input": 1, "webhook": "ftp://example.com"}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://[::1"}', "webhook must be"),
        (b'{"input": 1, "webhook": 3}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://example.com:99999/"}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://example.com:port/"}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://exam ple.com/"}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://user@/"}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://example.com:0/"}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://example\\u0000.com/"}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://example..com/"}', "webhook must be"),
        (b'{"input": 1, "webhook": 1e400}', "webhook cannot be read"),
        (b'{"input": 1, "policy": {"ttl": 1e400}}', "policy cannot be read"),
        (b'{"input": "' + b"x" * 10_000_000 + b'"}', "larger than 10 MB"),
    ],
)
def test_an_invalid_submission_is_rejected(body: bytes, said: str) -> None:
    with pytest.raises(BadJob, match=said):
        read_submission(body, sync=False)


def test_queries() -> None:
    assert (read_wait(""), read_wait("wait=1000"), read_ttl("x=1"), read_ttl("ttl=20000")) == (90, 1, None, 20)
    for wrong in ("wait=999", "wait=300001", "wait=soon"):
        with pytest.raises(BadJob, match="wait must be"):
            read_wait(wrong)


def test_a_job_is_rendered_in_runpods_format() -> None:
    job = Job("a", KEY, submission(), "key", created=10.0)
    assert describe_job(job) == {"id": "a", "status": "IN_QUEUE"}
    job.started, job.state, job.pod = 10.5, State.IN_PROGRESS, Address("10.0.0.1", 8000)
    assert describe_job(job) == {"delayTime": 500, "id": "a", "status": "IN_PROGRESS"}
    job.pod = Address("10.0.0.1", 8000, "one-6d8f-x2x7p")
    assert describe_job(job) == {
        "delayTime": 500, "id": "a", "status": "IN_PROGRESS", "workerId": "one-6d8f-x2x7p",
    }  # fmt: skip
    job.finished, job.state, job.output = 12.0, State.COMPLETED, ['{"x": 1}']
    assert json.loads(render(describe_job(job))) == {
        "delayTime": 500, "executionTime": 1500, "id": "a", "output": [{"x": 1}], "status": "COMPLETED",
        "workerId": "one-6d8f-x2x7p",
    }  # fmt: skip
    job.state, job.error = State.FAILED, "why"
    assert describe_job(job) == {
        "delayTime": 500, "executionTime": 1500, "id": "a", "error": "why", "status": "FAILED",
        "workerId": "one-6d8f-x2x7p",
    }  # fmt: skip
    job.state, job.started, job.error = State.IN_QUEUE, None, ""
    assert describe_job(job) == {"id": "a", "status": "IN_QUEUE"}, "the pod no longer has it"


def test_all_items_are_streamed_before_the_final_status() -> None:
    described = json.loads(render(describe_stream(State.COMPLETED, ['{"x": 1}'], more=True)))
    assert (described["status"], [each["output"] for each in described["stream"]]) == ("IN_PROGRESS", [{"x": 1}])
    assert describe_stream(State.COMPLETED, [], more=False) == {"status": "COMPLETED", "stream": []}


@pytest.mark.parametrize(
    ("item", "counted"),
    [
        ({"choices": [], "usage": {"input": 5, "output": 3}}, {"input_tokens": 5, "output_tokens": 3}),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 0}}, {"input_tokens": 5, "output_tokens": 0}),
        ({"usage": {"prompt_tokens": 5}}, {"input_tokens": 5, "output_tokens": 0}),
        ({"usage": None}, {}),
        ({"usage": {"input": "many"}}, {}),
        ({"usage": [1]}, {}),
        ('data: {"usage": {"input": 5}}', {}),
        ([{"usage": {"input": 5}}], {}),
        ({"text": "x" * MAX_USAGE_SEARCH_LENGTH, "usage": {"input": 5, "output": 3}}, {}),
    ],
)
def test_a_streamed_item_has_its_index_and_its_token_count(item: object, counted: dict[str, int]) -> None:
    described = describe_stream(State.IN_PROGRESS, ['"before"', json.dumps(item)], more=False, first=4)
    metrics = [each["metrics"] for each in described["stream"]]
    assert metrics == [
        {"scenario": "stream", "stream_index": 4},
        {"scenario": "stream", "stream_index": 5, **counted},
    ]


async def test_a_window_begins_with_its_first_request() -> None:
    now = 0.0
    rates = MemoryRateLimits(lambda: now)

    async def purge() -> float:
        async with rates.admit(KEY, "purge-queue", 0) as later:
            return later

    assert [await purge() for _ in range(3)] == [0, 0, 10]
    now = 9.0
    assert await purge() == 1
    now = 10.0
    assert await purge() == 0


def test_ids() -> None:
    assert new_job_id(sync=True).startswith("sync-")
    assert len({new_job_id(sync=False) for _ in range(100)}) == 100


async def test_a_large_output_is_read_only_if_it_fits() -> None:
    store, kept, directory = MemoryJobStore(1 << 20), Quota(400_000), Directory("home")
    for watch in list(watches(directory, KeyAuthorizer(), "system", ()))[:1]:
        watch.put({"metadata": {"namespace": "home", "name": "one", "uid": "1"}, "spec": {}})
    api = JobApi(store, directory, kept, FairScheduler(), MemoryRateLimits())
    for job_id, size in (("small", 100), ("large", 150_000)):
        await store.submit(KEY, job_id, submission(), "key")
        job, _ = await store.claim(KEY, [Address("10.0.0.1", 8000)], 9)
        assert job
        await store.finish(job, State.COMPLETED, items=[json.dumps("x" * size)])

    async def ask(job_id: str) -> int:
        return len(await api.answer(JobApiCall(KEY, "GET", "status", job_id, "", "key", b"")))

    assert await ask("large") > 150_000
    with Reservation(kept, "home") as taken:
        assert taken.resize(100_000)
        assert await ask("small") > 100
        with pytest.raises(Refused) as refused:
            await ask("large")
    assert refused.value.error.status == 429
    assert await ask("large") > 150_000
    await store.forget(KEY)
