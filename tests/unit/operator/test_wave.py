"""Which endpoints the wave upgrades next, and what the conditions of the others say. Pure, so each case is a row."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.status.diagnosis import Diagnosis
from forebay_operator.upgrades.member import Member, ServingState, UpgradeStage
from forebay_operator.upgrades.wave import NAMED, WAITING_FOR_TURN, describe_upgrade, plan_wave

OUTDATED, UPGRADING, REFUSED = UpgradeStage.OUTDATED, UpgradeStage.UPGRADING, UpgradeStage.REFUSED
FAILURE = Diagnosis("ImageNotFound", "the image secret.example/model is not there")

SERVING = Member(OUTDATED, ServingState.SERVING)
DEGRADED = Member(OUTDATED, ServingState.DEGRADED, failure=FAILURE)
DOWN = Member(OUTDATED, ServingState.DOWN, failure=FAILURE)
OFF = Member(OUTDATED, ServingState.OFF)
UNSETTLED = Member(OUTDATED, ServingState.UNSETTLED)
ON_CHANGE = replace(SERVING, mode="OnChange")
MANUAL = replace(SERVING, mode="Manual")
INTERRUPTED = replace(UNSETTLED, interrupted=True)
MOVING = Member(UPGRADING, ServingState.UNSETTLED)
FAILED = replace(MOVING, failure=FAILURE)
NOT_ACCEPTED = Member(REFUSED, ServingState.UNSETTLED, failure=FAILURE)


def plan(members: Mapping[str, Member], max_concurrent: int = 1, closed_window: str = "") -> dict[str, str]:
    """The reason of each endpoint, with * if it is allowed, and ** if it also takes a slot."""
    keyed: dict[EndpointKey, Member] = {("team", name): member for name, member in members.items()}
    found = plan_wave(keyed, max_concurrent, closed_window)
    return {key[1]: decision.reason + "*" * (decision.allowed + decision.takes_slot) for key, decision in found.items()}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param({"a": SERVING, "b": SERVING}, "Upgrading** Waiting", id="one at a time, in the order of names"),
        pytest.param({"a": MOVING, "b": SERVING}, "Waiting", id="the next one waits until the first is ready"),
        pytest.param({"a": FAILED, "b": SERVING}, "Stopped", id="the first that fails stops the wave"),
        pytest.param({"a": NOT_ACCEPTED, "b": SERVING}, "Stopped", id="a template that is refused stops it too"),
        pytest.param({"a": FAILED, "b": OFF, "c": DOWN}, "Stopped Stopped", id="endpoints without pods stop too"),
        pytest.param({"a": OFF, "b": SERVING, "c": SERVING}, "Upgrading* Upgrading** Waiting", id="zero needs no slot"),
        pytest.param({"a": MOVING, "b": OFF}, "Upgrading*", id="zero does not wait"),
        pytest.param({"a": DOWN, "b": SERVING}, "Upgrading* Upgrading**", id="an endpoint that is down blocks none"),
        pytest.param({"a": DEGRADED, "b": SERVING}, "Waiting Upgrading**", id="a degraded endpoint is last"),
        pytest.param({"a": DEGRADED}, "Upgrading**", id="a degraded endpoint has its turn"),
        pytest.param({"a": UNSETTLED, "b": SERVING}, "NotReady Upgrading**", id="others go before a starting one"),
        pytest.param({"a": ON_CHANGE, "b": SERVING}, "OnChange Upgrading**", id="OnChange keeps its template"),
        pytest.param({"a": MANUAL, "b": SERVING}, "ApprovalRequired Upgrading**", id="Manual waits for its user"),
        pytest.param({"a": replace(OFF, mode="OnChange")}, "OnChange", id="OnChange at zero"),
        pytest.param({"a": replace(MANUAL, approved=True), "b": SERVING}, "Upgrading** Waiting", id="approved"),
        pytest.param({"a": SERVING, "b": INTERRUPTED}, "Waiting Upgrading**", id="an interrupted upgrade is first"),
        pytest.param({"a": replace(INTERRUPTED, mode="Manual")}, "Upgrading**", id="it continues in any mode"),
        pytest.param(
            {"a": SERVING, "b": replace(DOWN, interrupted=True)},
            "Waiting Upgrading**",
            id="the wave waits for the endpoint that an upgrade has broken",
        ),
    ],
)
def test_the_wave_goes_on_one_endpoint_at_a_time(members: dict[str, Member], expected: str) -> None:
    found = plan(members)
    assert " ".join(found[name] for name in sorted(found)) == expected


@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_endpoints_may_be_upgraded_at_the_same_time(count: int) -> None:
    found = plan({"a": MOVING, "b": SERVING, "c": SERVING, "d": SERVING}, count)
    assert list(found.values()).count("Upgrading**") == count - 1


def test_the_window_holds_upgrades_back_unless_they_are_approved_or_interrupted() -> None:
    closed = "Sat 02:00-05:00 UTC"
    approved = replace(SERVING, approved=True)
    members = {"a": SERVING, "b": OFF, "c": DOWN, "d": approved, "e": INTERRUPTED, "f": ON_CHANGE}
    found = plan(members, 9, closed)
    assert {name for name, reason in found.items() if reason == "OutsideWindow"} == {"a", "b", "c"}
    assert {name for name, reason in found.items() if reason == "Upgrading**"} == {"d", "e"}
    assert closed in plan_wave({("team", "a"): SERVING}, 1, closed)["team", "a"].message


def test_messages_name_the_next_endpoints_and_no_other_data_of_a_tenant() -> None:
    waiting = plan_wave({("team", "a"): MOVING, ("other", "b"): SERVING}, 1)["other", "b"]
    assert waiting.message.endswith("after team/a")
    stopped = plan_wave({("team", "a"): FAILED, ("other", "b"): SERVING}, 1)["other", "b"]
    assert "team/a" in stopped.message
    assert "ImageNotFound" in stopped.message
    assert "secret.example" not in stopped.message
    own = describe_upgrade(FAILED)
    assert own.reason == "UpgradeFailed"
    assert "secret.example" in own.message


def test_messages_stay_short_with_many_concurrent_upgrades() -> None:
    members = {("team", f"m{number}"): MOVING for number in range(50)} | {("team", "z"): SERVING}
    assert plan_wave(members, 50)["team", "z"].message.endswith("after team/m0, team/m1, team/m10, 47 more")


def test_a_step_of_a_large_wave_changes_few_conditions() -> None:
    """5,000 endpoints must not have 5,000 writes at each of 5,000 steps."""
    members: dict[EndpointKey, Member] = {("team", f"e{number:04}"): SERVING for number in range(5000)}
    before = plan_wave(members, 1)
    assert list(before.values()).count(WAITING_FOR_TURN) == 5000 - 1 - NAMED
    after = plan_wave({**members, ("team", "e0000"): FAILED}, 1)
    assert sum(after[key] != before[key] for key in after) == NAMED
