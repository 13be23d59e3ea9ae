"""Jobs: what is taken, how they go through their states, what is told of them."""

import asyncio
import json
from typing import Any

import pytest

from forebay_gateway.jobs.job import Job, State, new_id, render, take_stream, tell
from forebay_gateway.jobs.operations import read_operation
from forebay_gateway.jobs.rates import Rates
from forebay_gateway.jobs.store import Full, Store
from forebay_gateway.jobs.submission import BadJob, Submission, read_submission, read_ttl, read_wait

KEY = ("home", "one")


def submission(**content: Any) -> Submission:
    return read_submission(json.dumps({"input": {"prompt": "Hi"}, **content}).encode(), sync=False)


def store(most: int = 100_000) -> Store:
    return Store(most)


def submit(kept: Store, job_id: str = "a", **content: Any) -> Job:
    return kept.submit(KEY, job_id, submission(**content), "key")


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("run", "run"),
        ("status/abc", "status/abc"),
        ("purge-queue", "purge-queue"),
        ("health", "health"),
        ("status", ""),
        ("status/", ""),
        ("status/a/b", ""),
        ("run/abc", ""),
        ("run/", ""),
        ("sleep", ""),
    ],
)
def test_operations(path: str, read: str) -> None:
    assert read_operation(path) == read


def test_defaults_of_a_submission() -> None:
    found = submission()
    assert (json.loads(found.input), found.timeout, found.ttl, found.kept, found.low) == (
        {"prompt": "Hi"},
        600,
        86400,
        1800,
        False,
    )
    assert read_submission(b'{"input": "x"}', sync=True).kept == 60


def test_a_policy() -> None:
    found = submission(policy={"executionTimeout": 5000, "ttl": 10_000, "lowPriority": True})
    assert (found.timeout, found.ttl, found.low) == (5, 10, True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "input"),
        (b"{}", "input"),
        (b'{"input": null}', "input"),
        (b'{"input": 1, "policy": 3}', "policy"),
        (b'{"input": 1, "policy": {"executionTimeout": 4999}}', "executionTimeout"),
        (b'{"input": 1, "policy": {"executionTimeout": true}}', "executionTimeout"),
        (b'{"input": 1, "policy": {"executionTimeout": NaN}}', "executionTimeout"),
        (b'{"input": 1, "policy": {"ttl": "1"}}', "ttl"),
        (b'{"input": 1, "policy": {"ttl": 1' + b"0" * 400 + b"}}", "ttl"),
        (b'{"input": 1, "policy": {"lowPriority": 1}}', "lowPriority"),
        (b'{"input": 1, "s3Config": {"accessId": "x"}}', "s3Config is not supported"),
        (b'{"input": 1, "webhook": "ftp://example.com"}', "webhook must be"),
        (b'{"input": 1, "webhook": "http://[::1"}', "webhook must be"),
        (b'{"input": 1, "webhook": 3}', "webhook must be"),
        (b'{"input": "' + b"x" * 10_000_000 + b'"}', "larger than 10 MB"),
    ],
)
def test_a_bad_submission_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(BadJob, match=said):
        read_submission(body, sync=False)


def test_queries() -> None:
    assert (read_wait(""), read_wait("wait=1000"), read_ttl("x=1"), read_ttl("ttl=20000")) == (90, 1, None, 20)
    for wrong in ("wait=999", "wait=300001", "wait=soon"):
        with pytest.raises(BadJob, match="wait must be"):
            read_wait(wrong)


async def test_a_job_goes_its_way() -> None:
    kept = store()
    job = submit(kept)
    assert tell(job) == {"id": "a", "status": "IN_QUEUE"}
    assert kept.waiting() == {KEY: 1}
    assert kept.claim(KEY) is job
    assert kept.claim(KEY) is None
    assert (kept.waiting(), kept.counts(KEY).running) == ({}, 1)
    kept.add_output(job, '{"x": 1}')
    assert json.loads(render(take_stream(job))) == {
        "status": "IN_PROGRESS",
        "stream": [{"metrics": {}, "output": {"x": 1}}],
    }
    assert kept.finish(job, State.COMPLETED)
    assert not kept.finish(job, State.CANCELLED)
    told = json.loads(render(tell(job)))
    assert told.keys() == {"delayTime", "executionTime", "id", "output", "status"}
    assert (told["status"], told["output"]) == ("COMPLETED", [{"x": 1}])
    assert take_stream(job) == {"status": "COMPLETED", "stream": []}
    assert (kept.counts(KEY).completed, kept.counts(KEY).running) == (1, 0)


async def test_an_item_is_told_before_the_end_is() -> None:
    kept = store(10_000_000)
    job = submit(kept)
    kept.claim(KEY)
    for _ in range(3):
        kept.add_output(job, json.dumps("x" * 600_000))
    kept.finish(job, State.COMPLETED)
    told = [take_stream(job) for _ in range(4)]
    assert [(each["status"], len(each["stream"])) for each in told] == [
        ("IN_PROGRESS", 1),
        ("IN_PROGRESS", 1),
        ("COMPLETED", 1),
        ("COMPLETED", 0),
    ]


async def test_a_job_whose_pod_is_gone_goes_first_and_its_output_is_forgotten() -> None:
    kept = store()
    first = submit(kept, "first")
    submit(kept, "second")
    assert kept.claim(KEY) is first
    kept.add_output(first, "1")
    kept.put_back(first)
    assert (first.state, first.output, first.started) == (State.IN_QUEUE, [], None)
    assert kept.claim(KEY) is first
    assert first.attempts == 2


async def test_jobs_of_low_priority_come_last_and_start_nothing() -> None:
    kept = store()
    low = submit(kept, "low", policy={"lowPriority": True})
    assert (kept.waiting(), kept.counts(KEY).queued) == ({}, 1)
    high = submit(kept, "high")
    assert [kept.claim(KEY), kept.claim(KEY)] == [high, low]


@pytest.mark.parametrize("state", State)
async def test_only_what_failed_can_be_retried(state: State) -> None:
    kept = store()
    job = submit(kept)
    if state is not State.IN_QUEUE:
        kept.claim(KEY)
    if state.final:
        kept.finish(job, state, "why")
    assert kept.retry(job) == (state in (State.FAILED, State.TIMED_OUT))
    if state.retryable:
        assert (job.state, job.error, kept.counts(KEY).retried) == (State.IN_QUEUE, "", 1)
        assert kept.claim(KEY) is job


async def test_purging_takes_what_is_queued_only() -> None:
    kept = store()
    running = submit(kept, "running")
    kept.claim(KEY)
    submit(kept, "queued")
    submit(kept, "low", policy={"lowPriority": True})
    assert kept.purge(KEY) == 2
    assert (kept.find(KEY, "queued"), kept.find(KEY, "running")) == (None, running)
    assert kept.purge(("home", "other")) == 0


async def test_memory_is_bounded_and_given_back() -> None:
    kept = store(most=7000)
    job = submit(kept, "a")  # 3,016 bytes
    kept.claim(KEY)
    kept.add_output(job, "x" * 3000)
    with pytest.raises(Full):
        submit(kept, "b")
    with pytest.raises(Full):
        kept.add_output(job, "x" * 3000)
    kept.finish(job, State.COMPLETED)
    kept.expire(job, 0)
    await asyncio.sleep(0.01)
    assert kept.find(KEY, "a") is None
    submit(kept, "b")
    submit(kept, "c")


async def test_a_job_is_another_endpoints_business_only() -> None:
    kept = store()
    submit(kept, "a")
    assert kept.find(("home", "two"), "a") is None
    kept.forget(KEY)
    assert kept.find(KEY, "a") is None


async def test_nothing_is_left_after_the_time_to_live() -> None:
    kept = store()
    job = submit(kept)
    kept.claim(KEY)
    kept.expire(job, 0)
    await asyncio.sleep(0.01)
    assert (job.state, kept.find(KEY, "a"), kept.counts(KEY).running) == (State.TIMED_OUT, None, 0)


def test_rates_grow_with_the_pods() -> None:
    now = 0.0
    rates = Rates(lambda: now)
    assert [rates.take(KEY, "purge-queue", 0) for _ in range(3)] == [0, 0, 10]
    assert rates.take(KEY, "purge-queue", 2) == 0
    assert rates.take(("home", "two"), "purge-queue", 0) == 0
    assert rates.take(KEY, "health", 0) == 0
    now = 10.0
    assert rates.take(KEY, "purge-queue", 0) == 0


def test_ids() -> None:
    assert new_id(sync=True).startswith("sync-")
    assert len({new_id(sync=False) for _ in range(100)}) == 100
