"""The coordinator queues an endpoint once for each new decision, and begins only when all endpoints are known."""

import asyncio

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.settings import UpgradeSettings
from forebay_operator.upgrades.coordinator import UpgradeCoordinator
from forebay_operator.upgrades.member import Member, ServingState, UpgradeStage
from tests.waiting import until

SERVING = Member(UpgradeStage.OUTDATED, ServingState.SERVING)
MOVING = Member(UpgradeStage.UPGRADING, ServingState.UNSETTLED)
A: EndpointKey = ("team", "a")
B: EndpointKey = ("team", "b")


def build() -> tuple[UpgradeCoordinator, list[EndpointKey]]:
    queued: list[EndpointKey] = []
    return UpgradeCoordinator(UpgradeSettings(), queued.append), queued


def test_an_endpoint_is_queued_once_for_each_new_decision() -> None:
    """A reconcile that fails is repeated by the work queue, with a delay of its own."""
    upgrades, queued = build()
    for key in (A, B):
        assert upgrades.follow(key, SERVING).reason == "Waiting"
    for _ in range(3):
        upgrades.plan()
    assert queued == [A, B]
    upgrades.begin(A)
    upgrades.plan()
    assert queued == [A, B], "for B nothing has changed"
    upgrades.follow(A, MOVING)
    upgrades.follow(A, None)
    upgrades.plan()
    assert queued == [A, B, B]
    assert upgrades.decide(B).takes_slot


def test_a_deleted_endpoint_is_removed_from_the_wave() -> None:
    upgrades, queued = build()
    upgrades.follow(A, SERVING)
    upgrades.begin(A)
    upgrades.follow(B, SERVING)
    upgrades.follow(A, None)
    upgrades.plan()
    assert queued == [B]
    assert upgrades.follow(B, None).reason == "Current"


async def test_no_upgrade_begins_before_all_endpoints_are_known() -> None:
    upgrades, queued = build()
    running = asyncio.create_task(upgrades.run())
    upgrades.follow(A, SERVING)
    await asyncio.sleep(0)
    assert queued == []
    upgrades.start()
    await until(lambda: queued == [A])
    upgrades.begin(A)
    upgrades.follow(B, SERVING)
    upgrades.follow(A, None)
    await until(lambda: queued[-1:] == [B])
    running.cancel()
