"""Describes an endpoint as the wave sees it: whether its template is outdated, and whether it serves. Pure."""

from dataclasses import dataclass
from enum import Enum, auto

from forebay_operator.resources.template import is_approved, is_upgrading
from forebay_operator.spec import Endpoint, UpgradeMode
from forebay_operator.status.diagnosis import Diagnosis, has_ended
from forebay_operator.status.observed import Observed, has_loaded, is_ready


class UpgradeStage(Enum):
    """The place of an endpoint in an upgrade."""

    OUTDATED = auto()
    """Its pod template comes from another operator version, or from other chart values."""
    UPGRADING = auto()
    """It has the current template, and not all of its pods are current and ready yet."""
    REFUSED = auto()
    """The API server refused the current template."""


class ServingState(Enum):
    """Whether an endpoint serves. For an outdated endpoint, this decides about its turn."""

    OFF = auto()
    """It should have no pods."""
    DOWN = auto()
    """It fails, and no pod is ready."""
    UNSETTLED = auto()
    """It starts, rolls out its own change, or cannot be reconciled."""
    SERVING = auto()
    """It serves."""
    DEGRADED = auto()
    """It serves, and some of its pods fail."""


@dataclass(frozen=True)
class Member:
    """An endpoint that is outdated or is being upgraded.

    Attributes:
        approved: whether its user approved the upgrade.
        interrupted: whether the operator changed the template again before the endpoint's last upgrade was complete.
        failure: why its pods fail, or why it cannot be reconciled.
    """

    stage: UpgradeStage
    serving: ServingState
    mode: UpgradeMode = "Automatic"
    approved: bool = False
    interrupted: bool = False
    failure: Diagnosis | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the wave stops at this endpoint."""
        return self.stage is not UpgradeStage.OUTDATED and self.failure is not None


def find_member(
    endpoint: Endpoint,
    observed: Observed,
    failure: Diagnosis | None,
    *,
    outdated: bool,
    default_mode: UpgradeMode,
) -> Member | None:
    """Describe an endpoint. Returns None if it is up to date, or has no Deployment.

    Args:
        observed: the observed state, with the Deployment as it is after this reconcile.
        failure: why its pods do not serve.
        outdated: whether its pod template is outdated.
        default_mode: the mode of an endpoint without spec.upgrade.mode.
    """
    upgrading = observed.deployment is not None and is_upgrading(observed.deployment)
    if observed.deployment is None or not (outdated or upgrading):
        return None
    return Member(
        UpgradeStage.OUTDATED if outdated else UpgradeStage.UPGRADING,
        find_serving_state(endpoint, observed, failure),
        endpoint.upgrade.mode or default_mode,
        approved=is_approved(endpoint, observed.deployment),
        interrupted=outdated and upgrading,
        failure=observed.error or failure,
    )


def find_serving_state(endpoint: Endpoint, observed: Observed, failure: Diagnosis | None) -> ServingState:
    """Find whether an endpoint serves, with pods of any template."""
    if not endpoint.wanted:
        return ServingState.OFF
    if observed.error or not all(map(observed.is_current_revision, observed.active)):
        return ServingState.UNSETTLED
    serves = observed.serving or (observed.asleep and any(map(has_loaded, observed.active)))
    if failure:
        return ServingState.DEGRADED if serves else ServingState.DOWN
    return ServingState.SERVING if serves else ServingState.UNSETTLED


def is_complete(endpoint: Endpoint, observed: Observed, *, asleep: bool) -> bool:
    """Whether the upgrade of an endpoint is complete: all its pods are current, and ready or asleep.

    Pods of earlier templates must have ended, because the next endpoint needs their GPUs.
    """
    active = observed.active
    return not endpoint.wanted or (
        len(active) == endpoint.wanted
        and all(observed.is_current_revision(pod) or has_ended(pod) for pod in observed.pods)
        and all(is_ready(pod) or (asleep and has_loaded(pod)) for pod in active)
    )
