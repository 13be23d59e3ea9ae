"""The rate of progress writes."""

from forebay_operator.controller.rate_limiter import RateLimiter


def test_one_key_writes_once_in_its_interval() -> None:
    pace: RateLimiter[str] = RateLimiter(key_interval=10, total_rate=20)
    assert pace.wait("a", 100.0) == 0.0
    pace.wrote("a", 100.0)
    assert pace.wait("a", 101.0) == 9.0
    assert pace.wait("a", 105.0) == 5.0
    assert pace.wait("a", 110.0) == 0.0


def test_a_write_that_did_not_wait_counts_too() -> None:
    pace: RateLimiter[str] = RateLimiter(key_interval=10, total_rate=20)
    pace.wrote("a", 100.0)
    assert pace.wait("a", 104.0) == 6.0


def test_all_keys_share_the_rate_and_every_key_gets_a_turn() -> None:
    pace: RateLimiter[int] = RateLimiter(key_interval=10, total_rate=20)
    moments = [100.5 + pace.wait(key, 100.5) for key in range(1000)]
    for second in range(100, 160):
        assert sum(int(moment) == second for moment in moments) <= 20
    assert max(moments) <= 100.5 + 1000 / 20 + 1
    assert [100.9 + pace.wait(key, 100.9) for key in range(20, 1000)] == moments[20:], "a repeated call keeps its time"


def test_deleted_keys_are_dropped() -> None:
    pace: RateLimiter[str] = RateLimiter(key_interval=10, total_rate=20)
    pace.wrote("a", 100.0)
    pace.forget("a")
    assert pace.wait("a", 101.0) == 0.0
