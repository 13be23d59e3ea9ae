"""Requests wait for pods: they wake an endpoint once, and are released together or refused with a reason."""

import asyncio

import pytest

from forebay_gateway.activator.pending_requests import find_refusal, too_late
from forebay_gateway.endpoints.endpoint import Address, Slice
from forebay_gateway.http import errors
from tests.unit.gateway.pending import KEY, PendingCluster, endpoint
from tests.waiting import until

POD = Address("10.0.0.1", 8000)


STALLED = [
    {"type": "Ready", "status": "False", "reason": "GatedModel", "message": "accept its licence"},
    {"type": "Stalled", "status": "True", "reason": "GatedModel", "message": "accept its licence"},
]


async def test_many_pending_requests_start_one_pod_and_are_released_together() -> None:
    cluster = PendingCluster()
    waiting = [cluster.wait() for _ in range(5)]
    await until(lambda: cluster.woken)
    cluster.directory.put_endpoint(endpoint(1))
    await asyncio.sleep(0)
    cluster.directory.put_slice("a", Slice(KEY, ready=(POD,)))
    assert await asyncio.gather(*waiting) == [[POD]] * 5
    assert cluster.woken == [KEY]


async def test_a_pod_that_reports_ready_is_enough() -> None:
    cluster = PendingCluster()
    cluster.directory.put_endpoint(endpoint(1))
    cluster.directory.put_slice("a", Slice(KEY, unready=(POD,)))
    waiting = cluster.wait()
    await until(lambda: cluster.asked > 1)
    assert not waiting.done()
    cluster.says_ready.append(POD)
    assert await asyncio.wait_for(waiting, 2) == [POD]
    assert cluster.woken == []


async def test_an_endpoint_that_scales_to_zero_again_is_started_again() -> None:
    cluster = PendingCluster()
    waiting = cluster.wait()
    await until(lambda: len(cluster.woken) == 2)
    waiting.cancel()


async def test_pending_requests_wait_for_pods_that_refused_a_connection() -> None:
    cluster = PendingCluster()
    cluster.balancer.suspect(POD)
    cluster.directory.put_endpoint(endpoint(1))
    cluster.directory.put_slice("a", Slice(KEY, ready=(POD,)))
    waiting = cluster.wait()
    await until(lambda: cluster.asked > 1)
    assert not waiting.done()
    other = Address("10.0.0.2", 8000)
    cluster.directory.put_slice("a", Slice(KEY, ready=(POD, other)))
    assert await asyncio.wait_for(waiting, 1) == [other]


async def test_a_failed_start_ends_all_pending_requests() -> None:
    cluster = PendingCluster()
    waiting = [cluster.wait() for _ in range(3)]
    await until(lambda: cluster.woken)
    cluster.directory.put_endpoint(endpoint(1, conditions=STALLED))
    for each in waiting:
        with pytest.raises(errors.Refused, match="cannot start \\(GatedModel\\): accept its licence"):
            await each


async def test_a_deleted_endpoint_ends_all_pending_requests() -> None:
    cluster = PendingCluster()
    waiting = cluster.wait()
    await until(lambda: cluster.woken)
    cluster.directory.drop_endpoint(KEY)
    with pytest.raises(errors.Refused, match="no endpoint 'one'"):
        await waiting


async def test_an_error_during_activation_ends_all_pending_requests() -> None:
    async def broken() -> None:
        raise RuntimeError("broken")

    cluster = PendingCluster()
    cluster.on_wake = broken
    loop_errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
    with pytest.raises(errors.Refused) as refused:
        await cluster.wait()
    assert refused.value.error is errors.INTERNAL


async def test_without_pending_requests_no_task_runs() -> None:
    cluster = PendingCluster()
    waiting = cluster.wait()
    await until(lambda: cluster.woken)
    waiting.cancel()
    await until(lambda: not cluster.activator._tasks)
    cluster.directory.put_slice("a", Slice(KEY, ready=(POD,)))
    assert await cluster.wait() == [POD]


def test_pending_requests_are_limited_for_an_endpoint_and_a_namespace() -> None:
    cluster = PendingCluster(held=6, held_per_endpoint=2)
    activator = cluster.activator
    with activator.held(KEY), activator.held(KEY):
        with pytest.raises(errors.Refused) as refused, activator.held(KEY):
            pass
        assert (refused.value.error.status, "endpoint 'one'" in refused.value.error.message) == (429, True)
        with (
            activator.held(("team", "two")),
            pytest.raises(errors.Refused) as refused,
            activator.held(("team", "three")),
        ):
            pass
        assert refused.value.error is errors.TOO_MANY_WAITING
        with activator.held(("others", "one")):
            assert activator.report()["others/one"]["held"] == 1
    with activator.held(KEY):
        assert activator.report()["team/one"]["held"] == 1


def test_the_report_counts_started_requests_and_drops_deleted_endpoints() -> None:
    cluster = PendingCluster()
    cluster.activator.begin(KEY)
    cluster.activator.begin(KEY)
    assert cluster.activator.report() == {"team/one": {"held": 0, "begun": 2, "oldestSeconds": 0.0, "queued": 0}}
    cluster.directory.drop_endpoint(KEY)
    assert cluster.activator.report() == {}


def test_a_stalled_endpoint_at_zero_can_be_started_again() -> None:
    assert find_refusal(endpoint(0, conditions=STALLED), "one") is None
    assert find_refusal(endpoint(1, conditions=STALLED), "one") is not None


def test_a_request_that_times_out_gets_retry_after() -> None:
    startup = {"step": "Downloading", "etaSeconds": 70}
    assert ("retry-after", "70") in too_late(endpoint(1, startup=startup), "one", 600).headers
    assert ("retry-after", "10") in too_late(endpoint(1), "one", 600).headers
