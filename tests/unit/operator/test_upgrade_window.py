"""The time window of upgrades: its syntax, time zones, nights and changes of the clock."""

from datetime import UTC, datetime

import pytest

from forebay_operator.upgrade_window import parse_window

NIGHT = "Fri,Sat 22:00-06:00 Europe/Berlin"


def at(text: str) -> datetime:
    """A time of 2026 in UTC. 2026-06-05 and 2026-12-04 are Fridays."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "now", "is_open"),
    [
        ("02:00-05:00 UTC", "06-05 02:00", True),
        ("02:00-05:00 UTC", "06-05 04:59:59", True),
        ("02:00-05:00 UTC", "06-05 05:00", False),
        ("02:00-05:00 UTC", "06-05 01:59", False),
        ("Fri 02:00-05:00 UTC", "06-05 03:00", True),
        ("Fri 02:00-05:00 UTC", "06-06 03:00", False),
        ("Mon-Fri 02:00-05:00 UTC", "06-05 03:00", True),
        ("Mon-Fri 02:00-05:00 UTC", "06-07 03:00", False),
        ("Sat-Mon 02:00-05:00 UTC", "06-08 03:00", True),
        ("Sat-Mon 02:00-05:00 UTC", "06-09 03:00", False),
        (NIGHT, "06-05 19:59", False),
        (NIGHT, "06-05 20:00", True),
        (NIGHT, "06-06 03:59", True),
        (NIGHT, "06-06 04:00", False),
        (NIGHT, "06-07 03:59", True),
        (NIGHT, "06-07 20:00", False),
        (NIGHT, "12-04 20:59", False),
        (NIGHT, "12-04 21:00", True),
        ("00:00-00:00 UTC", "06-05 12:00", True),
        ("Sun 01:00-04:00 Europe/Berlin", "03-29 00:30", True),
        ("Sun 01:00-04:00 Europe/Berlin", "03-29 02:00", False),
    ],
)
def test_a_window_is_open_on_its_days_in_its_time_zone(window: str, now: str, is_open: bool) -> None:
    assert parse_window(window).is_open(at(now)) is is_open


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("02:00-05:00", "is not a time window such as"),
        ("Sat 2-5 UTC", "is not a time window such as"),
        ("Sat 02:00-25:00 UTC", "no valid time of day"),
        ("Sa 02:00-05:00 UTC", "'Sa' in 'Sa 02:00-05:00 UTC' is not a weekday"),
        ("Sat, 02:00-05:00 UTC", "'' in 'Sat, 02:00-05:00 UTC' is not a weekday"),
        ("Mon-Tue-Wed 02:00-05:00 UTC", "is not a weekday"),
        ("02:00-05:00 Europe/Nowhere", "'Europe/Nowhere' in '02:00-05:00 Europe/Nowhere' is not a time zone"),
        ("02:00-05:00 ../../etc/passwd", "is not a time window"),
        ("02:00-05:00 /etc/localtime", "is not a time zone"),
    ],
)
def test_the_error_for_an_invalid_window_shows_the_form(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"Europe/Berlin|Mon-Fri") as refusal:
        parse_window(text)
    assert words in str(refusal.value)
