"""Decides which endpoints may be upgraded now, and why the others wait. Pure; coordinator.py calls it.

The wave has no state: it follows from the endpoints that are outdated and from those that are being upgraded.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.spec import Manifest
from forebay_operator.upgrades.member import Member, ServingState, UpgradeStage

NAMED = 20
"""The number of outdated endpoints, from the first in line, whose condition names the endpoints that they wait for. The
condition of all others stays the same until they are among the first. If all conditions had names, a wave of thousands
of endpoints would write thousands of statuses at each step."""

MAX_NAMES = 3
"""The most endpoints that one message names."""


@dataclass(frozen=True)
class Decision:
    """Whether an endpoint may get the current pod template. Reason and message are for the endpoint's condition
    UpToDate.

    Attributes:
        allowed: whether it may get the current template now.
        takes_slot: whether it counts as being upgraded until its pods are ready.
    """

    reason: str
    message: str
    allowed: bool = False
    takes_slot: bool = False


CURRENT = Decision("Current", "the endpoint has the current pod template")
WAITING_FOR_TURN = Decision("Waiting", "the endpoint waits for its turn to get the current pod template")
ADMITTED = Decision("Upgrading", "the endpoint gets the current pod template now", allowed=True)
ADMITTED_TO_SLOT = Decision(ADMITTED.reason, ADMITTED.message, allowed=True, takes_slot=True)
KEPT = Decision("OnChange", "the endpoint keeps its pod template until its own spec changes (upgrade mode OnChange)")
APPROVAL_REQUIRED = Decision(
    "ApprovalRequired",
    "the endpoint keeps its pod template until you approve the upgrade (upgrade mode Manual): set the annotation "
    f"{labels.UPGRADE_ANNOTATION} to a new value, such as the time",
)
UNSETTLED = Decision(
    "NotReady", "the endpoint waits for its turn to get the current pod template; before that, it must be ready or fail"
)


def plan_wave(
    members: Mapping[EndpointKey, Member], max_concurrent: int, closed_window: str = ""
) -> dict[EndpointKey, Decision]:
    """Decide about all outdated endpoints.

    Endpoints with an interrupted upgrade come first. Endpoints with some failing pods come last. An endpoint without a
    ready pod has nothing to lose, so it takes no slot, and the wave does not wait for it.

    Args:
        max_concurrent: the maximum number of endpoints that are upgraded at the same time.
        closed_window: the text of the time window while it is closed; "" while upgrades may begin.
    """
    plan: dict[EndpointKey, Decision] = {}
    slots = {key for key, member in members.items() if member.stage is not UpgradeStage.OUTDATED}
    failed = [key for key in sorted(slots) if members[key].has_failed]
    in_line: list[EndpointKey] = []
    for key, member in sorted(_outdated(members), key=lambda item: _order(*item)):
        decision = decide_alone(member, closed_window)
        if decision is None and not failed:
            if member.serving in (ServingState.OFF, ServingState.DOWN) and not (
                member.interrupted and member.serving is ServingState.DOWN
            ):
                decision = ADMITTED
            elif len(slots) < max_concurrent:
                decision = ADMITTED_TO_SLOT
                slots.add(key)
        if decision is None:
            in_line.append(key)
        else:
            plan[key] = decision
    reason, message = _describe_wait(slots, failed, members)
    plan |= {key: Decision(reason, message) if place < NAMED else WAITING_FOR_TURN for place, key in enumerate(in_line)}
    return plan


def decide_alone(member: Member, closed_window: str) -> Decision | None:
    """Decide about an outdated endpoint by its mode, its pods and the window. Returns None if the wave decides.

    An interrupted upgrade continues: not all pods of its template have been ready, so that template is not worth
    keeping.
    """
    if member.interrupted:
        return None
    if not member.approved:
        if member.mode == "OnChange":
            return KEPT
        if member.mode == "Manual":
            return APPROVAL_REQUIRED
        if closed_window:
            return Decision("OutsideWindow", f"the endpoint waits for the upgrade window {closed_window}")
    return UNSETTLED if member.serving is ServingState.UNSETTLED else None


def describe_upgrade(member: Member) -> Decision:
    """Return the decision about an endpoint that has a slot: its upgrade continues."""
    if not member.failure:
        message = "pods of the current template replace the others"
        return Decision("Upgrading", message, allowed=True, takes_slot=True)
    what = (
        "the current pod template is refused"
        if member.stage is UpgradeStage.REFUSED
        else "pods of the current template fail"
    )
    message = (
        f"{what}: {member.failure.reason}: {member.failure.text}. No other endpoint is upgraded until this one is "
        "repaired, changed, suspended or deleted"
    )
    return Decision("UpgradeFailed", message, allowed=True, takes_slot=True)


def build_condition(decision: Decision, generation: int) -> Manifest:
    """Build the condition UpToDate, without its transition time."""
    return {
        "type": "UpToDate",
        "status": "True" if decision == CURRENT else "False",
        "reason": decision.reason,
        "message": decision.message,
        "observedGeneration": generation,
    }


def _outdated(members: Mapping[EndpointKey, Member]) -> Iterator[tuple[EndpointKey, Member]]:
    return ((key, member) for key, member in members.items() if member.stage is UpgradeStage.OUTDATED)


def _order(key: EndpointKey, member: Member) -> tuple[bool, bool, EndpointKey]:
    return not member.interrupted, member.serving is ServingState.DEGRADED, key


def _describe_wait(
    slots: Collection[EndpointKey], failed: Iterable[EndpointKey], members: Mapping[EndpointKey, Member]
) -> tuple[str, str]:
    """Return reason and message for endpoints in line. Reason and message name the reason of a failure, but do not
    quote its message, which may contain data of another tenant."""
    for key in failed:
        failure = members[key].failure
        why = failure.reason if failure else ""
        return "Stopped", f"upgrades stopped at {_name(key)}, which fails with the current pod template: {why}"
    names = [_name(key) for key in sorted(slots)[:MAX_NAMES]]
    names += [f"{len(slots) - MAX_NAMES} more"] if len(slots) > MAX_NAMES else []
    return WAITING_FOR_TURN.reason, f"{WAITING_FOR_TURN.message}, after {', '.join(names)}"


def _name(key: EndpointKey) -> str:
    return "/".join(key)
