"""Coordinates the upgrades of all endpoints of the leading operator. The reconciler and the child writer call it.

It keeps one Member for each endpoint that is outdated or being upgraded, from the last reconcile of the endpoint. A new
leader finds the same state in the objects. It begins no upgrade before it has reconciled every endpoint once.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.settings import UpgradeSettings
from forebay_operator.upgrades.member import Member, ServingState, UpgradeStage
from forebay_operator.upgrades.wave import (
    CURRENT,
    WAITING_FOR_TURN,
    Decision,
    decide_alone,
    describe_upgrade,
    plan_wave,
)

logger = logging.getLogger(__name__)

PLAN_DELAY = 0.2
"""Seconds from a change to the next plan. The same plan covers further changes in this time."""

WINDOW_INTERVAL = 15.0
"""Seconds between two checks whether the time window is open."""


class UpgradeCoordinator:
    """Decides about the upgrades of all endpoints, for one event loop.

    Args:
        requeue: queues an endpoint, because the decision about it has changed.
        clock: returns the current time.
    """

    def __init__(
        self,
        settings: UpgradeSettings,
        requeue: Callable[[EndpointKey], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.default_mode = settings.mode
        self._settings = settings
        self._requeue = requeue
        self._clock = clock
        self._members: dict[EndpointKey, Member] = {}
        self._plan: Mapping[EndpointKey, Decision] = {}
        self._announced: dict[EndpointKey, Decision] = {}
        """The decision about each endpoint that its condition has, or will have after the queued reconcile."""
        self._started = asyncio.Event()
        self._changed = asyncio.Event()
        self._stopped_at: frozenset[EndpointKey] = frozenset()

    def start(self) -> None:
        """Begin to plan. Call it once all endpoints have been reconciled."""
        self._started.set()

    def decide(self, key: EndpointKey) -> Decision:
        """Return the decision about an outdated endpoint, from the last plan."""
        if self._has_begun(key):
            return describe_upgrade(self._members[key])
        return self._plan.get(key, WAITING_FOR_TURN)

    def begin(self, key: EndpointKey) -> None:
        """Take the slot of an endpoint. Call it immediately before its template is written."""
        if not self._has_begun(key):
            logger.info("upgrade of %s/%s begins", *key)
            self._put(key, Member(UpgradeStage.UPGRADING, ServingState.UNSETTLED))

    def follow(self, key: EndpointKey, member: Member | None) -> Decision:
        """Store the observation of a reconcile; None for an endpoint that is up to date or does not exist.

        Returns the decision for the condition of the endpoint.
        """
        if member and member.stage is UpgradeStage.OUTDATED and member.failure and self._has_begun(key):
            member = replace(member, stage=UpgradeStage.REFUSED)
        self._put(key, member)
        if member is None:
            self._announced.pop(key, None)
            return CURRENT
        alone = decide_alone(member, self._closed_window()) if member.stage is UpgradeStage.OUTDATED else None
        decision = self._announced[key] = alone or self.decide(key)
        return decision

    async def run(self) -> None:
        """Plan again after each change, and when the window opens or closes. Never returns."""
        await self._started.wait()
        while True:
            self._changed.clear()
            self.plan()
            with suppress(TimeoutError):
                async with asyncio.timeout(WINDOW_INTERVAL if self._settings.window else None):
                    await self._changed.wait()
            await asyncio.sleep(PLAN_DELAY)

    def plan(self) -> None:
        """Decide about all outdated endpoints, and queue those whose decision has changed."""
        self._plan = plan_wave(self._members, self._settings.max_concurrent, self._closed_window())
        for key, decision in self._plan.items():
            if decision != self._announced.get(key):
                self._announced[key] = decision
                self._requeue(key)
        self._log_stops()

    def _has_begun(self, key: EndpointKey) -> bool:
        """Whether the upgrade of an endpoint has begun and is not complete."""
        member = self._members.get(key)
        return member is not None and member.stage is not UpgradeStage.OUTDATED

    def _put(self, key: EndpointKey, member: Member | None) -> None:
        if member == self._members.get(key):
            return
        if member:
            self._members[key] = member
        else:
            del self._members[key]
        self._changed.set()

    def _closed_window(self) -> str:
        window = self._settings.window
        return window.text if window and not window.is_open(self._clock()) else ""

    def _log_stops(self) -> None:
        stopped_at = frozenset(key for key, member in self._members.items() if member.has_failed)
        for key in stopped_at - self._stopped_at:
            logger.warning("upgrades stop at %s/%s: %s", *key, describe_upgrade(self._members[key]).message)
        self._stopped_at = stopped_at
