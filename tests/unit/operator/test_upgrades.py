"""Upgrades of several endpoints by operators of two releases: the real reconciler on a fake API server."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from forebay_operator import labels
from forebay_operator.upgrade_window import parse_window
from tests.unit.operator.fleet import Fleet, release

OFF = {"replicas": 0}


async def install(*endpoints: str, **specs: Mapping[str, Any]) -> Fleet:
    """Endpoints that an operator of release 1 runs."""
    fleet = Fleet(*endpoints)
    for name, spec in specs.items():
        fleet.put(name, **spec)
    await fleet.settle(release(1))
    fleet.restarted.clear()
    fleet.most_at_once = 0
    return fleet


async def test_the_first_start_of_another_operator_with_the_same_templates_restarts_nothing() -> None:
    fleet = await install("a", "b", c=OFF)
    before = fleet.server.writes
    await fleet.settle(release(1))
    assert fleet.server.writes == before
    assert set(fleet.reasons().values()) == {"Current"}
    for name in "abc":
        del fleet.server.objects["deployments", name]["metadata"]["annotations"][labels.TEMPLATE_ANNOTATION]
    await fleet.settle(release(1))
    assert fleet.restarted == []
    assert fleet.server.writes <= before + 3 + 3, "one write for each Deployment, beside those of the pods"


async def test_a_changed_template_reaches_one_endpoint_after_the_other() -> None:
    fleet = await install("a", "b", "c", "d")
    await fleet.settle(release(2))
    assert fleet.restarted == ["a", "b", "c", "d"]
    assert fleet.most_at_once == 1
    assert set(fleet.images().values()) == {"2"}
    assert set(fleet.reasons().values()) == {"Current"}
    assert fleet.up_to_date("d")["status"] == "True"


async def test_the_chart_limits_the_number_of_concurrent_upgrades() -> None:
    fleet = await install("a", "b", "c", "d")
    await fleet.settle(release(2, max_concurrent=2))
    assert fleet.most_at_once == 2
    assert set(fleet.images().values()) == {"2"}


async def test_an_image_that_cannot_start_stops_the_wave_at_the_first() -> None:
    fleet = await install("a", "b", zero=OFF)
    fleet.put("b", scaling={"maxReplicas": 2})
    fleet.failing = {"server:2"}
    await fleet.settle(release(2))
    assert fleet.images() == {"a": "2", "b": "1", "zero": "2"}
    assert fleet.restarted == ["a"]
    assert fleet.reasons() == {"a": "UpgradeFailed", "b": "Stopped", "zero": "Current"}
    assert "ImageNotFound" in fleet.up_to_date("a")["message"]
    assert "team/a" in fleet.up_to_date("b")["message"]
    fleet.put("b", replicas=2)
    fleet.put("late", replicas=0)
    await fleet.settle()
    assert len(fleet.pods("b")) == 2, "an endpoint that waits still scales"
    assert fleet.images()["b"] == "1"
    await fleet.settle(release(2))
    assert fleet.images()["b"] == "1", "a restarted operator knows it too"


@pytest.mark.parametrize("remedy", ["repaired", "changed", "suspended", "deleted", "approved"])
async def test_the_wave_continues_when_the_endpoint_is_repaired_or_changed(remedy: str) -> None:
    fleet = await install("a", "b", own={"image": "own:1"})
    fleet.failing = {"server:2"}
    await fleet.settle(release(2))
    assert fleet.reasons() == {"a": "UpgradeFailed", "b": "Stopped", "own": "Current"}
    match remedy:
        case "repaired":
            fleet.failing = set()
        case "changed":
            fleet.put("a", env=[{"name": "MAX_MODEL_LEN", "value": "8"}])
        case "suspended":
            fleet.put("a", suspend=True)
        case "deleted":
            await fleet.delete("a")
        case "approved":
            fleet.put("a", {labels.UPGRADE_ANNOTATION: "go on"})
    await fleet.settle()
    assert fleet.images()["b"] == "2"


async def test_a_rollback_is_a_wave_that_begins_with_the_failed_endpoint() -> None:
    fleet = await install("a", "b", "c")
    await fleet.settle(release(2))
    fleet.failing = {"server:3"}
    fleet.restarted.clear()
    await fleet.settle(release(3))
    assert fleet.images() == {"a": "3", "b": "2", "c": "2"}
    await fleet.settle(release(2))
    assert fleet.images() == {"a": "2", "b": "2", "c": "2"}
    assert fleet.restarted == ["a"], "the pods from before the failed upgrade still serve"
    fleet.restarted.clear()
    await fleet.settle(release(1))
    assert fleet.restarted == ["a", "b", "c"]
    assert fleet.most_at_once == 1


async def test_the_failed_endpoint_is_the_first_that_gets_a_corrected_release() -> None:
    fleet = await install("a", "b", "z")
    fleet.put("a", suspend=True)
    fleet.failing = {"server:2"}
    await fleet.settle(release(2))
    assert fleet.reasons() == {"a": "Current", "b": "UpgradeFailed", "z": "Stopped"}
    fleet.put("a", suspend=False, image="own:1")
    await fleet.settle()
    await fleet.settle(release(3))
    assert fleet.restarted == ["b", "b", "z"]
    assert set(fleet.reasons().values()) == {"Current"}


async def test_an_endpoint_that_was_down_before_does_not_stop_the_wave() -> None:
    fleet = await install("b", "c")
    fleet.failing = {"broken:1"}
    fleet.put("a", image="broken:1")
    await fleet.settle()
    assert fleet.reasons()["a"] == "Current"
    await fleet.settle(replace(release(2), pull_policy="Always"))
    assert fleet.reasons() == {"a": "Current", "b": "Current", "c": "Current"}
    assert fleet.most_at_once == 1


async def test_on_change_keeps_the_template_until_the_own_spec_changes() -> None:
    fleet = await install("a", "b", c={"upgrade": {"mode": "Automatic"}})
    await fleet.settle(release(2, mode="OnChange"))
    assert fleet.images() == {"a": "1", "b": "1", "c": "2"}
    assert fleet.reasons() == {"a": "OnChange", "b": "OnChange", "c": "Current"}
    fleet.put("a", service={"port": 8000}, replicas=2)
    await fleet.settle()
    assert fleet.images()["a"] == "1", "neither the Service nor the number of replicas shapes the pods"
    fleet.put("a", env=[{"name": "MAX_MODEL_LEN", "value": "8"}])
    await fleet.settle()
    assert fleet.images() == {"a": "2", "b": "1", "c": "2"}
    assert fleet.reasons()["a"] == "Current"


async def test_manual_waits_for_each_approval() -> None:
    fleet = await install("a", "b")
    fleet.put("a", {labels.UPGRADE_ANNOTATION: "monday"}, upgrade={"mode": "Manual"})
    await fleet.settle()
    await fleet.settle(release(2))
    assert fleet.images() == {"a": "1", "b": "2"}
    assert fleet.reasons()["a"] == "ApprovalRequired"
    fleet.put("a", {labels.UPGRADE_ANNOTATION: "tuesday"})
    await fleet.settle()
    assert fleet.images()["a"] == "2"
    await fleet.settle(release(3))
    assert fleet.images() == {"a": "2", "b": "3"}, "an approval counts once"


async def test_upgrades_begin_in_the_window_only() -> None:
    fleet = await install("a", zero=OFF)
    settings = release(2, window=parse_window("Sat 02:00-05:00 UTC"))
    fleet.start(settings)
    fleet.upgrades._clock = lambda: datetime(2026, 6, 5, 3, tzinfo=UTC)
    await fleet.settle()
    assert fleet.images() == {"a": "1", "zero": "1"}
    assert fleet.reasons() == {"a": "OutsideWindow", "zero": "OutsideWindow"}
    fleet.upgrades._clock = lambda: datetime(2026, 6, 6, 3, tzinfo=UTC)
    await fleet.settle()
    assert fleet.images() == {"a": "2", "zero": "2"}


async def test_a_change_of_the_own_spec_never_waits() -> None:
    fleet = await install("a", "b")
    fleet.failing = {"server:2"}
    await fleet.settle(release(2))
    assert fleet.reasons()["b"] == "Stopped"
    fleet.put("b", image="own:1", replicas=2)
    await fleet.settle()
    assert fleet.image("b") == "own:1"
    assert len(fleet.pods("b")) == 2


async def test_a_template_that_the_api_server_refuses_stops_the_wave() -> None:
    fleet = await install("a", "b")
    fleet.server.refused = {"deployments"}
    await fleet.settle(release(2))
    assert fleet.reasons() == {"a": "UpgradeFailed", "b": "Stopped"}
    assert "Refused" in fleet.up_to_date("a")["message"]
    fleet.server.refused = set()
    await fleet.settle()
    assert fleet.images() == {"a": "2", "b": "2"}
    assert fleet.most_at_once == 1


async def test_the_next_operator_completes_an_interrupted_wave() -> None:
    fleet = await install("a", "b", "c")
    for _ in range(20):
        await fleet.settle(release(2), rounds=1)
    assert fleet.restarted == ["a", "b", "c"]
    assert fleet.most_at_once == 1
    assert set(fleet.images().values()) == {"2"}


async def test_operators_of_two_releases_that_take_turns_change_one_endpoint_at_a_time() -> None:
    fleet = await install("a", "b", "c")
    for number in [2, 1] * 6:
        await fleet.settle(release(number), rounds=2)
        assert (
            sum(
                len({pod["metadata"]["annotations"][labels.REVISION_ANNOTATION] for pod in fleet.pods(name)}) > 1
                for name in "abc"
            )
            <= 1
        )
    await fleet.settle(release(2))
    assert fleet.most_at_once == 1
    assert set(fleet.images().values()) == {"2"}


async def test_a_cache_that_lags_does_not_undo_an_upgrade() -> None:
    """The reconcile after the upgrade still sees the earlier Deployment."""
    fleet = await install("a", "b")
    fleet.start(release(2))
    await fleet._reconcile_all()
    fleet.upgrades.plan()
    lagging = {key: list(found) for key, found in fleet.cache.deployments.items()}
    await fleet.reconciler.reconcile(("team", "a"))
    assert fleet.image("a") == "server:2"
    fleet.cache.deployments.update(lagging)  # type: ignore[attr-defined]
    before = dict(fleet.server.objects["deployments", "a"]["metadata"]["annotations"])
    fleet.upgrades.plan()
    for name in "abab":
        await fleet.reconciler.reconcile(("team", name))
    assert fleet.server.objects["deployments", "a"]["metadata"]["annotations"] == before
    assert fleet.images() == {"a": "2", "b": "1"}
