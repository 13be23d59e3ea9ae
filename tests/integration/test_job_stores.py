"""The common behaviour of the two job stores, each called directly; Valkey is a real server."""

import asyncio
import json

import pytest

from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES
from forebay_gateway.jobs.job import State
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.store import Delivery, Full, JobStore, Lost
from forebay_gateway.jobs.submission import read_submission
from forebay_gateway.jobs.valkey_store import ValkeyJobStore
from tests.integration.stored_jobs import (
    JOB_STORE_BYTES,
    KEY,
    OTHER,
    POD,
    WEBHOOK,
    becomes,
    claim,
    claim_delivery,
    is_,
    state,
    submit,
)


async def test_a_job_is_queued_claimed_and_finished(store: JobStore) -> None:
    ended: list[str] = []
    store.finished.add(lambda job: ended.append(job.id))
    await submit(store, policy={"executionTimeout": 5000})
    assert await store.claim(KEY, [], 9) == (None, 1)
    job = await claim(store)
    assert (job.id, job.endpoint, job.state, job.pod, job.attempts) == ("a", KEY, State.IN_PROGRESS, POD, 1)
    assert (json.loads(job.submission.input), job.submission.timeout, job.api_key) == ({"prompt": "Hi"}, 5, "the key")
    assert await store.claim(KEY, [POD], 9) == (None, 0)
    await store.add_output(job, ['{"x": 1}', '"ü"'])
    await store.finish(job, State.COMPLETED, items=['"end"'])
    found = await store.find(KEY, "a")
    assert found
    assert (found.state, found.output, ended) == (State.COMPLETED, ['{"x": 1}', '"ü"', '"end"'], ["a"])
    assert found.started is not None
    assert found.finished is not None
    assert found.created <= found.started <= found.finished
    counts = await store.counts(KEY)
    assert (counts.queued, counts.running, counts.completed, counts.pods) == (0, 0, 1, 0)
    with pytest.raises(Lost):
        await store.finish(job, State.FAILED)


async def test_a_job_has_the_name_of_its_pod(store: JobStore) -> None:
    await submit(store)
    named = POD._replace(name="one-6d8f-x2x7p")
    job, _ = await store.claim(KEY, [named], 9)
    assert job
    found = await store.find(KEY, "a")
    assert (job.pod, found and found.pod) == (named, named)
    await store.requeue(job, blamed=False)
    await store.claim(KEY, [OTHER], 9)
    again = await store.find(KEY, "a")
    assert again
    assert again.pod == OTHER


async def test_the_pod_with_the_fewest_jobs_gets_the_next_up_to_its_limit(store: JobStore) -> None:
    for number in range(5):
        await submit(store, str(number))
    pods = []
    for _ in range(5):
        job, left = await store.claim(KEY, [POD, OTHER], 2)
        pods.append(job and job.pod)
    assert (set(pods[:2]), set(pods[2:4]), pods[4], left) == ({POD, OTHER}, {POD, OTHER}, None, 1)
    assert (await store.counts(KEY)).pods == 2


async def test_each_item_of_the_output_is_streamed_once(store: JobStore) -> None:
    await submit(store)
    job = await claim(store)
    await store.add_output(job, [json.dumps("x" * 600) for _ in range(3)])
    taken = await store.take_stream(KEY, "a", 1000)
    assert taken
    assert (len(taken.items), taken.more, taken.state, taken.first) == (1, True, State.IN_PROGRESS, 0)
    taken = await store.take_stream(KEY, "a", 5000)
    assert taken
    assert (len(taken.items), taken.more, taken.first) == (2, False, 1)
    taken = await store.take_stream(KEY, "a", 5000)
    assert taken
    assert (taken.items, taken.more) == ([], False)
    assert await store.take_stream(("home", "two"), "a", 5000) is None


async def test_a_large_output_is_read_only_when_all_of_it_is_requested(store: JobStore) -> None:
    items = [json.dumps("x" * (UNCOUNTED_BYTES + 10)), '"end"']
    await submit(store)
    job = await claim(store)
    await store.add_output(job, items)
    taken = await store.take_stream(KEY, "a", UNCOUNTED_BYTES)
    assert taken
    assert (taken.larger, taken.items, taken.more) == (len(items[0]), [], True)
    taken = await store.take_stream(KEY, "a", taken.larger)
    assert taken
    assert (taken.items, taken.more, taken.larger) == (items[:1], True, 0)
    await store.finish(job, State.COMPLETED)
    found = await store.find(KEY, "a")
    assert found
    assert (found.output or found.omitted_bytes) in (items, sum(map(len, items)))
    async with store.output_lock(found):
        whole = await store.whole(found)
        assert whole
        assert (whole.output, whole.omitted_bytes) == (items, 0)


async def test_a_text_counts_as_its_size_in_memory() -> None:
    store, text = MemoryJobStore(JOB_STORE_BYTES, share=1.0), json.dumps("x" * (JOB_STORE_BYTES // 3))
    await store.submit(KEY, "ascii", read_submission(b'{"input": %s}' % text.encode(), sync=False), "")
    wide = text.replace("xx", "\N{ELEPHANT}x", 1)
    with pytest.raises(Full):
        await store.submit(KEY, "wide", read_submission(b'{"input": %s}' % wide.encode(), sync=False), "")
    await store.forget(KEY)


async def test_a_job_whose_pod_was_removed_runs_first_with_an_empty_output(store: JobStore) -> None:
    for name in ("first", "second", "third"):
        await submit(store, name)
    first = await claim(store)
    second = await claim(store)
    await store.add_output(first, ["1"])
    await store.requeue(first, blamed=True)
    await store.requeue(second, blamed=False)
    assert await state(store, "first") is State.IN_QUEUE
    again = [await claim(store) for _ in range(3)]
    assert [(job.id, job.attempts) for job in again] == [("first", 2), ("second", 1), ("third", 1)]
    await store.finish(again[0], State.COMPLETED, items=["2"])
    found = await store.find(KEY, "first")
    assert found
    assert found.output == ["2"]


async def test_low_priority_jobs_run_last_and_start_no_pod(store: JobStore) -> None:
    await submit(store, "low", policy={"lowPriority": True})
    counts = await store.counts(KEY)
    assert (counts.queued, counts.waiting) == (1, 0)
    await submit(store, "high")
    assert (await store.counts(KEY)).waiting == 1
    assert [(await claim(store)).id for _ in range(2)] == ["high", "low"]


@pytest.mark.parametrize("found", State)
async def test_only_failed_jobs_can_be_retried(store: JobStore, found: State) -> None:
    await submit(store)
    if found is State.CANCELLED:
        await store.cancel(KEY, "a")
    elif found is not State.IN_QUEUE:
        job = await claim(store)
        if found.final:
            await store.finish(job, found, "why", ["1"])
    assert await store.retry(KEY, "a", "another key") is found
    assert await store.retry(KEY, "b", "another key") is None
    if found.retryable:
        assert (await store.counts(KEY)).retried == 1
        job = await claim(store)
        assert (job.attempts, job.api_key, job.error, job.started is not None) == (1, "another key", "", True)
        await store.finish(job, State.COMPLETED, items=["2"])
    else:
        assert await state(store) is found


async def test_cancelling_ends_a_job_once_in_any_state(store: JobStore) -> None:
    ended: list[str] = []
    stopped: list[str] = []
    store.finished.add(lambda job: ended.append(job.id))
    store.claim_lost.add(lambda job_id, _: stopped.append(job_id))
    await submit(store, "running")
    job = await claim(store)
    await submit(store, "queued")
    for _ in range(2):
        cancelled = [await store.cancel(KEY, name) for name in ("queued", "running")]
        assert [each and each.state for each in cancelled] == [State.CANCELLED] * 2
    assert (ended, await store.cancel(KEY, "none")) == (["queued", "running"], None)
    with pytest.raises(Lost):
        await store.add_output(job, ["1"])
    await becomes(lambda: asyncio.sleep(0, "running" in stopped))
    assert await store.claim(KEY, [POD], 9) == (None, 0)
    assert (await store.counts(KEY)).pods == 0


async def test_purging_removes_only_queued_jobs(store: JobStore) -> None:
    await submit(store, "running")
    await claim(store)
    await submit(store, "queued")
    await submit(store, "low", policy={"lowPriority": True})
    assert await store.purge(KEY) == 2
    assert [await state(store, name) for name in ("queued", "low", "running")] == [None, None, State.IN_PROGRESS]
    assert await store.purge(("home", "other")) == 0
    assert await store.claim(KEY, [POD], 9) == (None, 0)


async def test_the_memory_of_jobs_is_bounded_and_released(store: JobStore) -> None:
    await submit(store, "a", input="x" * 90_000)
    job = await claim(store)
    with pytest.raises(Full):
        await submit(store, "b", input="x" * 10_000)
    with pytest.raises(Full):
        await store.add_output(job, ["x" * 10_000])
    await store.add_output(job, ["x" * 2000])
    await store.requeue(job, blamed=False)
    await store.finish(await claim(store), State.COMPLETED, items=["x" * 3000])
    await store.expire(KEY, "a", 0)
    await becomes(lambda: is_(store, "a", None))
    for name in ("b", "c"):
        await submit(store, name, input="x" * 46_000)


async def test_a_job_is_invisible_to_other_endpoints(store: JobStore) -> None:
    await submit(store)
    other = ("home", "two")
    assert [await store.find(other, "a"), await store.cancel(other, "a"), await store.retry(other, "a", "")] == [
        None
    ] * 3
    await store.forget(other)
    assert await state(store) is State.IN_QUEUE
    await store.forget(KEY)
    assert await state(store) is None
    assert (await store.counts(KEY)).queued == 0


async def test_a_waiting_client_learns_that_the_job_ended(store: JobStore) -> None:
    await submit(store)
    with store.changes("a") as changed:
        await store.finish(await claim(store), State.COMPLETED)
        await asyncio.wait_for(changed.wait(), 2)


async def test_a_result_is_kept_no_longer_than_its_time_to_live(store: JobStore) -> None:
    await submit(store, policy={"ttl": 10_000})
    await store.finish(await claim(store), State.COMPLETED)
    await store.expire(KEY, "a", 86_400)
    if isinstance(store, ValkeyJobStore):
        left = float(await store._client.zscore("forebay:expiries", "a") or 0) / 1000
        job = await store.find(KEY, "a")
        assert job
        assert left == pytest.approx(job.created + 10, abs=0.01)


async def test_each_end_of_a_job_with_a_webhook_is_delivered_once(store: JobStore) -> None:
    notified: list[tuple[str, str]] = []
    store.deliverable.add(notified.append)
    await submit(store, "none")
    await store.finish(await claim(store), State.COMPLETED)
    assert (await store.claim_delivery(KEY), notified) == ((None, 0), [])
    for name in ("completed", "cancelled", "purged"):
        await submit(store, name, **WEBHOOK)
    await store.finish(await claim(store), State.COMPLETED, items=['"x"'])
    await store.cancel(KEY, "cancelled")
    await store.purge(KEY)
    assert notified == [KEY] * 3
    assert await store.claim_delivery(("home", "two")) == (None, 0)
    found = []
    for left in (2, 1, 0):
        delivery, more = await store.claim_delivery(KEY)
        assert delivery
        assert (more, delivery.tries) == (left, 0)
        found.append(delivery)
    assert await store.claim_delivery(KEY) == (None, 0)
    by_id = {each.job.id: each.job for each in found}
    assert {name: job.state for name, job in by_id.items()} == {
        "completed": State.COMPLETED, "cancelled": State.CANCELLED, "purged": State.CANCELLED,
    }  # fmt: skip
    assert (by_id["completed"].output, by_id["completed"].submission.webhook) == (['"x"'], WEBHOOK["webhook"])
    assert await state(store, "purged") is None, "only its webhook still keeps it"
    for delivery in found:
        await store.end_delivery(delivery)
    assert await store.claim_delivery(KEY) == (None, 0)
    assert [await state(store, name) for name in ("completed", "cancelled")] == [State.COMPLETED, State.CANCELLED]


async def test_a_webhook_that_was_not_delivered_is_due_again(store: JobStore) -> None:
    await submit(store, **WEBHOOK)
    await store.finish(await claim(store), State.COMPLETED)
    delivery = await claim_delivery(store)
    for tried, tries in ((False, 0), (True, 1), (True, 2)):
        await store.postpone_delivery(delivery, 0.1, tried=tried)
        found: list[Delivery] = []

        async def is_due(found: list[Delivery] = found) -> bool:
            found += filter(None, [(await store.claim_delivery(KEY))[0]])
            return bool(found)

        await becomes(is_due)
        (delivery,) = found
        assert delivery.tries == tries
    await store.postpone_delivery(delivery, 60, tried=True)
    assert await store.claim_delivery(KEY) == (None, 0)


async def test_an_expired_result_is_kept_for_its_webhook_only(store: JobStore) -> None:
    output = json.dumps("x" * (UNCOUNTED_BYTES + 10))
    await submit(store, **WEBHOOK)
    await store.finish(await claim(store), State.COMPLETED, items=[output])
    delivery = await claim_delivery(store)
    await store.expire(KEY, "a", 0)
    await becomes(lambda: is_(store, "a", None))
    assert await store.cancel(KEY, "a") is None
    assert await store.take_stream(KEY, "a", 1000) is None
    with pytest.raises(Full):
        await submit(store, "b", input="x" * 80_000)
    await store.forget(KEY)
    whole = await store.read_delivery(delivery)
    assert whole
    assert (whole.state, whole.output) == (State.COMPLETED, [output])
    await store.end_delivery(delivery)
    assert await store.read_delivery(delivery) is None
    await submit(store, "b", input="x" * 80_000)


async def test_the_webhook_of_a_retried_job_is_not_delivered(store: JobStore) -> None:
    await submit(store, **WEBHOOK)
    await store.finish(await claim(store), State.FAILED, "why")
    delivery = await claim_delivery(store)
    await store.retry(KEY, "a", "")
    assert await store.read_delivery(delivery) is None
    await store.postpone_delivery(delivery, 0, tried=True)
    assert await store.claim_delivery(KEY) == (None, 0)
    await store.finish(await claim(store), State.COMPLETED)
    await store.end_delivery(delivery)
    again = await claim_delivery(store)
    assert (again.job.state, again.tries) == (State.COMPLETED, 0)
    await store.end_delivery(again)


async def test_a_job_whose_time_to_live_ended_is_sent_to_its_webhook(store: JobStore) -> None:
    await submit(store, policy={"ttl": 10_000}, **WEBHOOK)
    job = await claim(store)
    if isinstance(store, MemoryJobStore):
        store._expire(job, 0)
    elif isinstance(store, ValkeyJobStore):
        await store._client.zadd("forebay:expiries", {"a": 0})
    await becomes(lambda: is_(store, "a", None))
    delivery = await claim_delivery(store)
    assert (delivery.job.state, delivery.job.error) == (State.TIMED_OUT, "The job's time to live has expired.")
    await store.end_delivery(delivery)
