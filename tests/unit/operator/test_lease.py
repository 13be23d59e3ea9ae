"""Who may take the lease, and what it then says."""

from datetime import UTC, datetime

import pytest

from forebay_operator.lease import Sighting, Terms, may_take, next_spec

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
def test_a_lease_is_taken_when_it_is_free_ours_or_was_seen_unchanged_for_its_duration(
    spec: dict[str, object], seen_at: float, may: bool
) -> None:
    assert may_take(Sighting(spec, seen_at), "b", now=100.0) is may


def test_the_clock_of_the_holder_is_never_looked_at() -> None:
    skewed = {**HELD, "renewTime": "1970-01-01T00:00:00.000000Z"}
    assert not may_take(Sighting(skewed, 100.0), "b", now=100.0)


def test_a_renewal_keeps_when_it_was_acquired_and_a_takeover_counts() -> None:
    renewed, taken = next_spec(HELD, "a", Terms(), NOW), next_spec(HELD, "b", Terms(), NOW)
    assert renewed == {**HELD, "renewTime": "2026-01-02T03:04:05.000006Z"}
    assert taken == {
        "holderIdentity": "b",
        "leaseDurationSeconds": 10,
        "acquireTime": "2026-01-02T03:04:05.000006Z",
        "renewTime": "2026-01-02T03:04:05.000006Z",
        "leaseTransitions": 3,
    }
    assert next_spec({}, "a", Terms(), NOW)["leaseTransitions"] == 0


def test_a_holder_stops_before_another_may_begin() -> None:
    terms = Terms()
    assert terms.renew_deadline + terms.retry < terms.duration
    assert terms.duration + terms.retry < 15, "failover takes less than 15 s"
