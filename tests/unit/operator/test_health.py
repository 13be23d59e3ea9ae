"""The operator's probes."""

from forebay_operator.observability.health import MAX_STALL, Health


def test_a_standby_operator_is_ready() -> None:
    assert Health().ready() == (True, "standing by")


def test_a_leader_is_ready_after_the_first_pass() -> None:
    assert not Health(leads=True).ready()[0]
    assert Health(leads=True, synced=True).ready()[0]


def test_a_queue_without_progress_fails_the_liveness_probe() -> None:
    assert Health().live() == (True, "ok")
    assert Health(stalled_seconds=MAX_STALL - 1).live()[0]
    assert Health(stalled_seconds=MAX_STALL + 1).live() == (False, "the work queue made no progress for 301 s")
