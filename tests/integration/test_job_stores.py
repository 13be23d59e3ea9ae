"""What the two stores of jobs promise alike, each asked directly; Valkey is a real server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.quotas import UNCOUNTED
from forebay_gateway.jobs import scripts
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.scripts import connect
from forebay_gateway.jobs.store import ATTEMPTS, Full, JobStore, Lost, Unavailable
from forebay_gateway.jobs.submission import read_submission
from forebay_gateway.jobs.valkey_store import CLAIM_LEASE, ValkeyJobStore
from tests.integration.valkey_process import ValkeyServer, running_valkey
from tests.waiting import until

KEY = ("home", "one")
POD, OTHER = Address("10.0.0.1", 8000), Address("10.0.0.2", 8000)
MOST = 100_000


@pytest.fixture
async def valkey(valkey_server: ValkeyServer) -> AsyncIterator[ValkeyServer]:
    """With nothing in it, whatever the gateways of other files left."""
    client = connect(valkey_server.url)
    await client.flushall()
    yield valkey_server
    await client.flushall()
    await client.aclose()


def opened(server: ValkeyServer, most: int = MOST) -> ValkeyJobStore:
    return ValkeyJobStore(connect(server.url), KeyCipher(lambda: b"secret"), most, share=1.0)


@pytest.fixture(params=["memory", "valkey"])
async def store(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[JobStore]:
    if request.param == "memory":
        yield MemoryJobStore(MOST, share=1.0)
        return
    async with opened(valkey) as found:
        yield found


async def submit(store: JobStore, job_id: str = "a", **content: Any) -> None:
    body = json.dumps({"input": {"prompt": "Hi"}, **content}).encode()
    await store.submit(KEY, job_id, read_submission(body, sync=False), "the key")


async def claim(store: JobStore, at_once: int = 9) -> Job:
    job, _ = await store.claim(KEY, [POD], at_once)
    assert job
    return job


async def state(store: JobStore, job_id: str = "a") -> State | None:
    job = await store.find(KEY, job_id)
    return job.state if job else None


async def is_(store: JobStore, job_id: str, expected: State | None) -> bool:
    return await state(store, job_id) is expected


async def becomes(reached: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20):
        while True:
            if await reached():
                return
            await asyncio.sleep(0.02)


async def test_a_job_goes_its_way(store: JobStore) -> None:
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


async def test_the_pod_with_the_fewest_gets_the_next_and_none_gets_too_many(store: JobStore) -> None:
    for number in range(5):
        await submit(store, str(number))
    pods = []
    for _ in range(5):
        job, left = await store.claim(KEY, [POD, OTHER], 2)
        pods.append(job and job.pod)
    assert (set(pods[:2]), set(pods[2:4]), pods[4], left) == ({POD, OTHER}, {POD, OTHER}, None, 1)
    assert (await store.counts(KEY)).pods == 2


async def test_each_item_of_the_output_is_taken_once(store: JobStore) -> None:
    await submit(store)
    job = await claim(store)
    await store.add_output(job, [json.dumps("x" * 600) for _ in range(3)])
    taken = await store.take_stream(KEY, "a", 1000)
    assert taken
    assert (len(taken.items), taken.more, taken.state) == (1, True, State.IN_PROGRESS)
    taken = await store.take_stream(KEY, "a", 5000)
    assert taken
    assert (len(taken.items), taken.more) == (2, False)
    taken = await store.take_stream(KEY, "a", 5000)
    assert taken
    assert (taken.items, taken.more) == ([], False)
    assert await store.take_stream(("home", "two"), "a", 5000) is None


async def test_a_large_output_is_read_only_by_who_asks_for_all_of_it(store: JobStore) -> None:
    items = [json.dumps("x" * (UNCOUNTED + 10)), '"end"']
    await submit(store)
    job = await claim(store)
    await store.add_output(job, items)
    taken = await store.take_stream(KEY, "a", UNCOUNTED)
    assert taken
    assert (taken.larger, taken.items, taken.more) == (len(items[0]), [], True)
    taken = await store.take_stream(KEY, "a", taken.larger)
    assert taken
    assert (taken.items, taken.more, taken.larger) == (items[:1], True, 0)
    await store.finish(job, State.COMPLETED)
    found = await store.find(KEY, "a")
    assert found
    assert (found.output or found.left_out) in (items, sum(map(len, items)))
    async with store.turn(found):
        whole = await store.whole(found)
        assert whole
        assert (whole.output, whole.left_out) == (items, 0)


async def test_a_text_counts_as_what_it_takes_in_memory() -> None:
    store, text = MemoryJobStore(MOST, share=1.0), json.dumps("x" * (MOST // 3))
    await store.submit(KEY, "ascii", read_submission(b'{"input": %s}' % text.encode(), sync=False), "")
    wide = text.replace("xx", "\N{ELEPHANT}x", 1)
    with pytest.raises(Full):
        await store.submit(KEY, "wide", read_submission(b'{"input": %s}' % wide.encode(), sync=False), "")
    await store.forget(KEY)


async def test_a_job_whose_pod_is_gone_goes_first_and_its_output_is_forgotten(store: JobStore) -> None:
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


async def test_jobs_of_low_priority_come_last_and_start_nothing(store: JobStore) -> None:
    await submit(store, "low", policy={"lowPriority": True})
    counts = await store.counts(KEY)
    assert (counts.queued, counts.waiting) == (1, 0)
    await submit(store, "high")
    assert (await store.counts(KEY)).waiting == 1
    assert [(await claim(store)).id for _ in range(2)] == ["high", "low"]


@pytest.mark.parametrize("found", State)
async def test_only_what_failed_can_be_retried(store: JobStore, found: State) -> None:
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


async def test_cancelling_ends_a_job_once_wherever_it_is(store: JobStore) -> None:
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


async def test_purging_takes_what_is_queued_only(store: JobStore) -> None:
    await submit(store, "running")
    await claim(store)
    await submit(store, "queued")
    await submit(store, "low", policy={"lowPriority": True})
    assert await store.purge(KEY) == 2
    assert [await state(store, name) for name in ("queued", "low", "running")] == [None, None, State.IN_PROGRESS]
    assert await store.purge(("home", "other")) == 0
    assert await store.claim(KEY, [POD], 9) == (None, 0)


async def test_what_jobs_keep_is_bounded_and_given_back(store: JobStore) -> None:
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


async def test_a_job_is_another_endpoints_business_only(store: JobStore) -> None:
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


async def test_word_of_the_end_reaches_who_waits(store: JobStore) -> None:
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


async def test_two_gateways_claim_each_job_once(valkey: ValkeyServer) -> None:
    async with opened(valkey, 10 * MOST) as one, opened(valkey, 10 * MOST) as two:
        for number in range(40):
            await submit(one, str(number))

        async def claim_all(store: JobStore) -> list[str]:
            found = []
            while job := (await store.claim(KEY, [POD], 100))[0]:
                found.append(job.id)
            return found

        claimed = await asyncio.gather(*(claim_all(store) for store in (one, two, one, two)))
        assert sorted(chain(*claimed), key=int) == [str(number) for number in range(40)]
        with two.changes("7") as changed:
            await one.cancel(KEY, "7")
            await asyncio.wait_for(changed.wait(), 2)


async def test_the_job_of_a_gateway_that_died_is_anothers_within_its_lease(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay_gateway.jobs.valkey_store.CLAIM_LEASE", 1.0)
    monkeypatch.setattr("forebay_gateway.jobs.valkey_store.HEARTBEAT_INTERVAL", 0.2)
    assert CLAIM_LEASE + 2 < 15
    ended: list[Job] = []
    dead = opened(valkey)
    async with opened(valkey) as living:
        living.finished.add(ended.append)
        await submit(living)
        for number in range(ATTEMPTS):
            job = await claim(dead)
            then = State.IN_QUEUE if number + 1 < ATTEMPTS else State.FAILED
            await becomes(lambda then=then: is_(living, "a", then))  # type: ignore[misc]
            with pytest.raises(Lost):
                await dead.finish(job, State.COMPLETED)
        assert "went away" in ended[0].error
        await submit(living, "kept")
        job = await claim(living)
        beats = 0
        hold = living._hold

        async def counted(claims: Sequence[tuple[str, str]]) -> None:
            nonlocal beats
            await hold(claims)
            beats += 1

        monkeypatch.setattr(living, "_hold", counted)
        await until(lambda: beats > 8)  # longer than its lease
        assert await state(living, "kept") is State.IN_PROGRESS, "it is beaten for"
        await living.finish(job, State.COMPLETED)
    await dead._client.aclose()


async def test_what_runs_in_no_gateway_is_over_when_its_time_to_live_is(valkey: ValkeyServer) -> None:
    async with opened(valkey) as store:
        ended: list[Job] = []
        store.finished.add(ended.append)
        await submit(store)
        await store._client.zadd("forebay:expiries", {"a": 0})
        await becomes(lambda: is_(store, "a", None))
        await until(lambda: ended)
        assert [job.state for job in ended] == [State.TIMED_OUT]
        assert await store._client.keys("forebay:*:a*") == []
        assert await store._client.get("forebay:bytes") == "0"


async def test_keys_are_sealed(valkey: ValkeyServer) -> None:
    async with opened(valkey) as store:
        await submit(store)
        kept = await store._client.hgetall("forebay:job:a")
        assert "the key" not in json.dumps(kept)
        assert KeyCipher(lambda: b"secret").open(str(kept["api_key"]), "job home/one a") == "the key"
        assert KeyCipher(lambda: b"other").open(str(kept["api_key"]), "job home/one a") == ""


async def test_a_restart_of_valkey_is_waited_for_and_loses_nothing(valkey: ValkeyServer) -> None:
    async with opened(valkey) as store:
        await submit(store, "before")
        job = await claim(store)
        await store.add_output(job, ["1"])
        valkey.kill()
        submitting = asyncio.create_task(submit(store, "during"))
        finishing = asyncio.create_task(store.finish(job, State.COMPLETED, items=["2"]))
        await asyncio.to_thread(valkey.start)
        await asyncio.gather(submitting, finishing)
        found = await store.find(KEY, "before")
        assert found
        assert (found.state, found.output, await state(store, "during")) == (
            State.COMPLETED, ["1", "2"], State.IN_QUEUE,
        )  # fmt: skip
        with store.changes("during") as changed:
            await store.cancel(KEY, "during")
            await asyncio.wait_for(changed.wait(), 10)


async def test_where_valkey_has_no_memory_nothing_is_taken_in_but_what_runs_goes_on(
    valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    with running_valkey(tmp_path, "--maxmemory", "3mb") as server:
        async with opened(server, 1 << 30) as store:
            await submit(store, "0", input="x" * 1000)
            job = await claim(store)

            async def fill() -> None:
                for number in range(1, 100):
                    await submit(store, str(number), input="x" * 100_000)

            with pytest.raises(Full):
                await fill()
            await store.finish(job, State.COMPLETED, items=["1"])
            assert await state(store, "0") is State.COMPLETED


async def test_a_call_that_is_made_again_tells_the_same(valkey: ValkeyServer) -> None:
    async with opened(valkey) as store:
        await submit(store)
        job = await claim(store)
        await store.add_output(job, ["1", "2"])
        for call, items in (("x", ["1"]), ("x", ["1"]), ("y", ["2"]), ("y", ["2"]), ("z", [])):
            told = await store._scripts.run("take_stream", "a", "home/one", 1, call)
            assert told[2] == items
        await store.finish(job, State.FAILED)
        found = [await store._scripts.run("retry", "a", "home/one", "", call) for call in ("x", "x", "y")]
        assert found == ["FAILED", "FAILED", "IN_QUEUE"]
        assert (await store.counts(KEY)).retried == 1


async def test_after_valkey_was_away_claims_have_another_lease(valkey: ValkeyServer) -> None:
    store, lease = opened(valkey), 60_000  # it neither beats nor sweeps
    await submit(store)
    job = await claim(store)
    client = store._client

    async def sweep(*, swept_before: float = 0, idle: int | None = None) -> int:
        """Sweep, as if the sweep before had been so long ago and nobody had beaten for so long, in ms. How many jobs
        are queued again."""
        seconds, microseconds = await client.time()
        await client.set("forebay:swept", int(seconds * 1000 + microseconds / 1000 - swept_before))
        if idle is not None:
            entry = str(await client.hget(f"forebay:job:{job.id}", "entry"))
            group = "gateways"
            await client.xclaim("forebay:queue:home/one:normal", group, group, 0, [entry], idle=idle, justid=True)
        return int((await store._scripts.run("sweep", lease, ATTEMPTS))[2])

    assert await sweep(idle=lease - 1000) == 0, "its lease is not over"
    assert await sweep(swept_before=lease, idle=lease + 1000) == 0, "nobody could beat, as Valkey was away"
    assert await sweep() == 0, "it has another lease"
    assert await sweep(idle=lease + 1000) == 1
    await client.aclose()


async def test_a_key_is_sealed_for_its_job(valkey: ValkeyServer) -> None:
    """Who may write to Valkey cannot have it sent to another endpoint's pod."""
    client = connect(valkey.url)
    async with opened(valkey) as store:
        await submit(store)
        await store.submit(OTHERS, "b", read_submission(b'{"input": 1}', sync=False), "another key")
        await client.hset("forebay:job:b", "api_key", str(await client.hget("forebay:job:a", "api_key")))
        job, _ = await store.claim(OTHERS, [POD], 9)
        assert job is not None
        assert (job.id, job.api_key) == ("b", "")
        await store.release(job)
    await client.aclose()


OTHERS = ("team-b", "other")


async def test_a_lost_job_of_low_priority_that_goes_again_was_never_waited_for(valkey: ValkeyServer) -> None:
    client = connect(valkey.url)
    async with opened(valkey) as store:
        await submit(store, "low", policy={"lowPriority": True})
        await store.requeue(await claim(store), blamed=False)
        await submit(store, "kept")
        await client.delete("forebay:job:low")
        assert (await claim(store)).id == "kept"
        await submit(store, "next")
        assert (await store.counts(KEY)).waiting == 1
    await client.aclose()


@pytest.mark.parametrize("lost", ["", ":input"], ids=["all of it", "its input"])
@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("step", ["claim", "purge", "sweep", "forget"])
async def test_a_job_that_is_lost_in_valkey_harms_no_other(
    valkey: ValkeyServer, lost: str, runs: bool, step: str
) -> None:
    """Such as one that was evicted, or deleted by hand."""
    client = connect(valkey.url)
    async with opened(valkey) as store:
        await submit(store, "lost")
        if runs:
            await claim(store)
            store._claims.clear()  # and its gateway is gone
        await submit(store, "kept")
        await store.submit(OTHERS, "other", read_submission(b'{"input": 1}', sync=False), "")
        await client.delete(f"forebay:job:lost{lost}")
        match step:
            case "claim":
                assert (await claim(store)).id == "kept"
            case "purge":
                await store.purge(KEY)
                assert (await store.counts(KEY)).queued == 0
            case "sweep":
                await client.zadd("forebay:expiries", {"lost": 0})
                await store._sweep()
                assert await client.zscore("forebay:expiries", "lost") is None
            case "forget":
                await store.forget(KEY)
                assert await client.exists("forebay:jobs:home/one") == 0
        counts = await store.counts(OTHERS)
        assert (counts.queued, counts.running) == (1, 0)
        job, _ = await store.claim(OTHERS, [POD], 9)
        assert job is not None
        await store.finish(job, State.COMPLETED)
    await client.aclose()


@pytest.mark.parametrize("step", ["sweep", "forget"])
async def test_what_a_lost_job_kept_counts_no_more(valkey: ValkeyServer, step: str) -> None:
    """A final one too, which no queue names."""
    client = connect(valkey.url)
    async with opened(valkey) as store:
        await submit(store, "lost")
        await store.finish(await claim(store), State.COMPLETED, items=['"x"', '"y"'])
        assert await client.hget("forebay:bytes-of", KEY[0]) != "0"
        await client.delete("forebay:job:lost")
        if step == "sweep":
            await client.zadd("forebay:expiries", {"lost": 0})
            await store._sweep()
        else:
            await store.forget(KEY)
        assert await client.get("forebay:bytes") == "0"
        assert await client.keys("forebay:*lost*") == []
        for place in ("bytes-of", "sizes", "expiries", f"jobs:{'/'.join(KEY)}"):
            assert await client.exists(f"forebay:{place}") == 0
    await client.aclose()


async def test_another_program_in_the_place_of_valkey_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service without a pod may lead anywhere for a moment."""
    monkeypatch.setattr(scripts, "SCRIPT_RETRY_TIMEOUT", 0.3)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        client = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(Unavailable):
            await scripts.Scripts(client, "return 1").run("find")
        await client.aclose()


async def test_what_was_kept_before_namespaces_were_counted_takes_nothing_from_others(valkey: ValkeyServer) -> None:
    client = connect(valkey.url)
    async with opened(valkey) as store:
        await submit(store, "old")
        await client.delete("forebay:bytes-of")
        await store.forget(KEY)
        assert await client.hgetall("forebay:bytes-of") == {}
        assert await client.get("forebay:bytes") == "0"
    await client.aclose()
