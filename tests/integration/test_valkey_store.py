"""Further behaviour of the job store in Valkey: leases, restarts, and lost data."""

import asyncio
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from forebay_gateway.jobs import scripts
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_gateway.jobs.store import ATTEMPTS, Full, JobStore, Lost, Unavailable
from forebay_gateway.jobs.submission import read_submission
from forebay_gateway.jobs.valkey_store import CLAIM_LEASE, ValkeyJobStore
from tests.integration.stored_jobs import (
    JOB_STORE_BYTES,
    KEY,
    POD,
    WEBHOOK,
    becomes,
    claim,
    claim_delivery,
    is_,
    opened,
    state,
    submit,
)
from tests.integration.valkey_process import ValkeyServer, running_valkey
from tests.waiting import until


async def outlast_lease(store: ValkeyJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for longer than a lease of 1 s, by its renewals each 0.2 s."""
    renewals = 0
    renew = store._renew_claims

    async def counted(claims: Sequence[tuple[str, str]]) -> None:
        nonlocal renewals
        await renew(claims)
        renewals += 1

    monkeypatch.setattr(store, "_renew_claims", counted)
    await until(lambda: renewals > 8)


async def test_two_gateways_claim_each_job_once(valkey: ValkeyServer) -> None:
    async with opened(valkey, 10 * JOB_STORE_BYTES) as one, opened(valkey, 10 * JOB_STORE_BYTES) as two:
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


async def test_another_gateway_gets_the_job_of_a_dead_gateway_within_its_lease(
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
        assert "were lost" in ended[0].error
        await submit(living, "kept")
        job = await claim(living)
        await outlast_lease(living, monkeypatch)
        assert await state(living, "kept") is State.IN_PROGRESS, "its heartbeat is sent"
        await living.finish(job, State.COMPLETED)
    await dead._client.aclose()


async def test_another_gateway_gets_the_webhook_of_a_dead_gateway_within_its_lease(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay_gateway.jobs.valkey_store.CLAIM_LEASE", 1.0)
    monkeypatch.setattr("forebay_gateway.jobs.valkey_store.HEARTBEAT_INTERVAL", 0.2)
    dead = opened(valkey)
    async with opened(valkey) as living:
        due: list[tuple[str, str]] = []
        living.deliverable.add(due.append)
        await submit(dead, **WEBHOOK)
        await dead.finish(await claim(dead), State.COMPLETED, items=['"x"'])
        await until(lambda: due)  # as it might have died before it claimed it
        lost = await claim_delivery(dead)
        due.clear()
        await until(lambda: due)
        delivery = await claim_delivery(living)
        assert (delivery.job.output, delivery.tries) == (['"x"'], 0)
        assert await dead.read_delivery(lost) is None
        await dead.end_delivery(lost)
        await outlast_lease(living, monkeypatch)
        assert await living.claim_delivery(KEY) == (None, 0), "its heartbeat is sent"
        await living.end_delivery(delivery)
        assert await living._client.keys("forebay:webhooks*") == []
    await dead._client.aclose()


async def test_an_undelivered_webhook_expires(valkey: ValkeyServer) -> None:
    async with opened(valkey) as store:
        await submit(store, **WEBHOOK)
        await store.finish(await claim(store), State.COMPLETED)
        for _ in range(2):  # its result, then what is kept for the webhook
            await store._client.zadd("forebay:expiries", {"a": 0})
            await store._reap_stalled()
        assert await store.claim_delivery(KEY) == (None, 0)
        assert await store._client.keys("forebay:*:a*") == []
        assert await store._client.keys("forebay:webhooks*") == []
        assert await store._client.get("forebay:bytes") == "0"


async def test_the_webhook_of_a_lost_job_delays_no_other(valkey: ValkeyServer) -> None:
    async with opened(valkey) as store:
        for name in ("lost", "kept"):
            await submit(store, name, **WEBHOOK)
            await store.finish(await claim(store), State.COMPLETED)
        await store._client.delete("forebay:job:lost")
        assert (await claim_delivery(store)).job.id == "kept"


async def test_a_job_that_no_gateway_runs_ends_with_its_time_to_live(valkey: ValkeyServer) -> None:
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


async def test_keys_are_stored_encrypted(valkey: ValkeyServer) -> None:
    async with opened(valkey) as store:
        await submit(store)
        kept = await store._client.hgetall("forebay:job:a")
        assert "the key" not in json.dumps(kept)
        assert KeyCipher(lambda: b"secret").decrypt(str(kept["api_key"]), "job home/one a") == "the key"
        assert KeyCipher(lambda: b"other").decrypt(str(kept["api_key"]), "job home/one a") == ""


async def test_a_restart_of_valkey_delays_calls_and_loses_nothing(valkey: ValkeyServer) -> None:
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


async def test_without_valkey_memory_new_jobs_are_rejected_and_running_jobs_continue(
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


async def test_a_repeated_call_returns_the_same_result(valkey: ValkeyServer) -> None:
    async with opened(valkey) as store:
        await submit(store)
        job = await claim(store)
        await store.add_output(job, ["1", "2"])
        for call, items, first in (("x", ["1"], 0), ("x", ["1"], 0), ("y", ["2"], 1), ("y", ["2"], 1), ("z", [], 2)):
            taken = await store._scripts.run("take_stream", "a", "home/one", 1, call)
            assert (taken[2], int(taken[4])) == (items, first)
        await store.finish(job, State.FAILED)
        found = [await store._scripts.run("retry", "a", "home/one", "", call) for call in ("x", "x", "y")]
        assert found == ["FAILED", "FAILED", "IN_QUEUE"]
        assert (await store.counts(KEY)).retried == 1


async def test_claims_get_a_new_lease_after_valkey_returns(valkey: ValkeyServer) -> None:
    store, lease = opened(valkey), 60_000  # it sends no heartbeats and reaps nothing
    await submit(store)
    job = await claim(store)
    client = store._client

    async def sweep(*, swept_before: float = 0, idle: int | None = None) -> int:
        """Reap stalled jobs, as if the last heartbeat were `idle` ms ago. Returns how many jobs are queued again.

        Args:
            swept_before: ms since the previous call.
        """
        seconds, microseconds = await client.time()
        await client.set("forebay:swept", int(seconds * 1000 + microseconds / 1000 - swept_before))
        if idle is not None:
            entry = str(await client.hget(f"forebay:job:{job.id}", "entry"))
            group = "gateways"
            await client.xclaim("forebay:queue:home/one:normal", group, group, 0, [entry], idle=idle, justid=True)
        return int((await store._scripts.run("reap_stalled", lease, ATTEMPTS))[2])

    assert await sweep(idle=lease - 1000) == 0, "its lease is not over"
    assert await sweep(swept_before=lease, idle=lease + 1000) == 0, (
        "no gateway could send a heartbeat while Valkey was unreachable"
    )
    assert await sweep() == 0, "it has another lease"
    assert await sweep(idle=lease + 1000) == 1
    await client.aclose()


async def test_a_key_is_encrypted_for_its_job(valkey: ValkeyServer) -> None:
    """A client that may write to Valkey cannot get the key sent to another endpoint's pod."""
    client = connect_valkey(valkey.url)
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


async def test_a_requeued_low_priority_job_that_is_lost_was_never_counted_as_waiting(valkey: ValkeyServer) -> None:
    client = connect_valkey(valkey.url)
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
@pytest.mark.parametrize("step", ["claim", "purge", "reap_stalled", "forget"])
async def test_a_job_lost_in_valkey_affects_no_other_job(
    valkey: ValkeyServer, lost: str, runs: bool, step: str
) -> None:
    """For example, it was evicted, or deleted by hand."""
    client = connect_valkey(valkey.url)
    async with opened(valkey) as store:
        await submit(store, "lost")
        if runs:
            await claim(store)
            store._claims.clear()  # and its gateway died
        await submit(store, "kept")
        await store.submit(OTHERS, "other", read_submission(b'{"input": 1}', sync=False), "")
        await client.delete(f"forebay:job:lost{lost}")
        match step:
            case "claim":
                assert (await claim(store)).id == "kept"
            case "purge":
                await store.purge(KEY)
                assert (await store.counts(KEY)).queued == 0
            case "reap_stalled":
                await client.zadd("forebay:expiries", {"lost": 0})
                await store._reap_stalled()
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


@pytest.mark.parametrize("step", ["reap_stalled", "forget"])
async def test_the_bytes_of_a_lost_job_are_no_longer_counted(valkey: ValkeyServer, step: str) -> None:
    """A final one too, which no queue names."""
    client = connect_valkey(valkey.url)
    async with opened(valkey) as store:
        await submit(store, "lost")
        await store.finish(await claim(store), State.COMPLETED, items=['"x"', '"y"'])
        assert await client.hget("forebay:bytes-of", KEY[0]) != "0"
        await client.delete("forebay:job:lost")
        if step == "reap_stalled":
            await client.zadd("forebay:expiries", {"lost": 0})
            await store._reap_stalled()
        else:
            await store.forget(KEY)
        assert await client.get("forebay:bytes") == "0"
        assert await client.keys("forebay:*lost*") == []
        for place in ("bytes-of", "sizes", "expiries", f"jobs:{'/'.join(KEY)}"):
            assert await client.exists(f"forebay:{place}") == 0
    await client.aclose()


async def test_another_program_at_the_address_of_valkey_means_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service without a pod may lead anywhere for a moment."""
    monkeypatch.setattr(scripts, "SCRIPT_RETRY_TIMEOUT", 0.3)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        client = connect_valkey(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(Unavailable):
            await scripts.Scripts(client, "return 1").run("find")
        await client.aclose()


async def test_jobs_stored_before_quotas_by_namespace_reduce_no_quota(valkey: ValkeyServer) -> None:
    client = connect_valkey(valkey.url)
    async with opened(valkey) as store:
        await submit(store, "old")
        await client.delete("forebay:bytes-of")
        await store.forget(KEY)
        assert await client.hgetall("forebay:bytes-of") == {}
        assert await client.get("forebay:bytes") == "0"
    await client.aclose()
