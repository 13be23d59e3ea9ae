"""The acquisition of the lease, and its content."""

import asyncio
import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from forebay_kube.api_client import ApiServerError
from forebay_operator.apiserver.leader_election import Candidate, LeaseTimings, ObservedLease, may_acquire, next_spec

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
HELD = {"holderIdentity": "a", "leaseDurationSeconds": 10, "acquireTime": "then", "leaseTransitions": 2}


@pytest.mark.parametrize(
    ("spec", "seen_at", "may"),
    [
        (HELD, 100.0, False),
        (HELD, 90.0, False),
        (HELD, 89.9, True),
        ({**HELD, "holderIdentity": "b"}, 100.0, True),
        ({**HELD, "holderIdentity": ""}, 100.0, True),
        ({}, 100.0, True),
    ],
)
def test_a_lease_is_acquired_if_free_own_or_unchanged_for_its_duration(
    spec: dict[str, object], seen_at: float, may: bool
) -> None:
    assert may_acquire(ObservedLease(spec, seen_at), "b", now=100.0) is may


def test_the_clock_of_the_holder_is_never_used() -> None:
    skewed = {**HELD, "renewTime": "1970-01-01T00:00:00.000000Z"}
    assert not may_acquire(ObservedLease(skewed, 100.0), "b", now=100.0)


def test_a_renewal_keeps_when_it_was_acquired_and_a_takeover_counts() -> None:
    renewed, taken = next_spec(HELD, "a", LeaseTimings(), NOW), next_spec(HELD, "b", LeaseTimings(), NOW)
    assert renewed == {**HELD, "renewTime": "2026-01-02T03:04:05.000006Z"}
    assert taken == {
        "holderIdentity": "b",
        "leaseDurationSeconds": 10,
        "acquireTime": "2026-01-02T03:04:05.000006Z",
        "renewTime": "2026-01-02T03:04:05.000006Z",
        "leaseTransitions": 3,
    }
    assert next_spec({}, "a", LeaseTimings(), NOW)["leaseTransitions"] == 0


def test_a_holder_stops_before_another_may_acquire() -> None:
    timings = LeaseTimings()
    assert timings.renew_deadline + timings.retry < timings.duration
    assert timings.duration + timings.retry < 15, "failover takes less than 15 s"


QUICK = LeaseTimings(duration=10, renew_deadline=0.07, retry=0.01)


class Leases:
    """One Lease as the API server keeps it, until `down` is set."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.down = False
        self.version = 0

    async def get(self, *_: str) -> dict[str, Any] | None:
        if self.down:
            raise ApiServerError(0, "Unreachable", "down")
        return copy.deepcopy(self.lease)

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any] | None:
        return await self.replace(manifest)

    async def replace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.down:
            raise ApiServerError(0, "Unreachable", "down")
        if self.lease and manifest["metadata"].get("resourceVersion") != self.lease["metadata"]["resourceVersion"]:
            raise ApiServerError(409, "Conflict", "written meanwhile")
        self.version += 1
        metadata = {**manifest["metadata"], "resourceVersion": str(self.version)}
        self.lease = copy.deepcopy({**manifest, "metadata": metadata})
        return copy.deepcopy(self.lease)


@pytest.fixture
def leases() -> Leases:
    return Leases()


def candidate(leases: Leases, identity: str) -> Candidate:
    return Candidate(leases, "system", "operator", identity, timings=QUICK)  # type: ignore[arg-type]


async def rest(leases: Leases) -> tuple[Candidate, asyncio.Task[None]]:
    """A holder that has found the API server away, and its renewing of the lease."""
    one = candidate(leases, "one")
    await one.acquire()
    renewing = asyncio.create_task(one.keep_renewing())
    leases.down = True
    async with asyncio.timeout(5):
        await one.wait_until(is_leader=False)
    return one, renewing


async def test_a_holder_pauses_while_the_api_server_is_unreachable(leases: Leases) -> None:
    one, renewing = await rest(leases)
    assert not renewing.done()
    leases.down = False
    async with asyncio.timeout(5):
        await one.wait_until(is_leader=True)
    assert leases.lease
    assert leases.lease["spec"]["leaseTransitions"] == 0
    await one.release()
    async with asyncio.timeout(5):
        await renewing
    assert not one.lost
    assert leases.lease["spec"]["holderIdentity"] == ""


async def test_a_holder_that_finds_another_holder_ends(leases: Leases) -> None:
    one, renewing = await rest(leases)
    assert leases.lease
    leases.lease["spec"]["holderIdentity"] = "other"
    leases.down = False
    async with asyncio.timeout(5):
        await renewing
    assert (one.lost, one.is_leader) == (True, False)


async def test_a_lease_that_cannot_be_released_is_no_error(leases: Leases, caplog: pytest.LogCaptureFixture) -> None:
    one = candidate(leases, "one")
    await one.acquire()
    leases.down = True
    await one.release()
    assert "could not be released" in caplog.text


async def test_a_deleted_or_released_lease_is_acquired_again(leases: Leases) -> None:
    one = candidate(leases, "one")
    await one.acquire()
    renewing = asyncio.create_task(one.keep_renewing())
    version, leases.lease = leases.version, None
    async with asyncio.timeout(5):
        while leases.version == version:  # noqa: ASYNC110  what the holder does next is all that there is to wait for
            await asyncio.sleep(0.01)
    assert one.is_leader
    assert not one.lost
    renewing.cancel()
