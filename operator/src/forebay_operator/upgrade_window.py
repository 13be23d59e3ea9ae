"""The time window in which upgrades may begin, such as `Sat,Sun 02:00-05:00 Europe/Berlin`. Pure.

`arguments` parses it, and upgrades/coordinator.py asks whether it is open.
"""

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FORM = "such as 'Sat,Sun 02:00-05:00 Europe/Berlin', 'Mon-Fri 22:00-06:00 UTC' or '02:00-05:00 UTC'"

_WINDOW = re.compile(r"(?:(?P<days>[A-Za-z,-]+) +)?(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d) +(?P<zone>[A-Za-z0-9_+/-]+)")


@dataclass(frozen=True)
class UpgradeWindow:
    """A time of day on some days of the week.

    Attributes:
        text: the window as it was given, for messages.
        days: the weekdays on which it opens, with Monday as 0.
        start: when it opens, in its time zone.
        end: when it closes. If `end` is not after `start`, the window closes on the following day.
        zone: the name of its time zone, such as Europe/Berlin.
    """

    text: str
    days: frozenset[int]
    start: time
    end: time
    zone: str

    def is_open(self, now: datetime) -> bool:
        """Whether the window is open at `now`, which has a time zone."""
        local = now.astimezone(ZoneInfo(self.zone))
        at, today = local.time(), local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= at < self.end
        yesterday = (local - timedelta(days=1)).weekday()
        return (today in self.days and at >= self.start) or (yesterday in self.days and at < self.end)


def parse_window(text: str) -> UpgradeWindow:
    """Parse a window: weekdays (all if absent), start and end, and the time zone.

    Raises:
        ValueError: the text has another form, or the time zone is unknown.
    """
    match = _WINDOW.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a time window {FORM}")
    try:
        start, end = (time.fromisoformat(match[name]) for name in ("start", "end"))
    except ValueError as error:
        raise ValueError(f"{text!r} has no valid time of day: write a window {FORM}") from error
    zone = match["zone"]
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, LookupError) as error:
        raise ValueError(f"{zone!r} in {text!r} is not a time zone such as UTC or Europe/Berlin") from error
    days = _parse_days(match["days"], text) if match["days"] else frozenset(range(7))
    return UpgradeWindow(text.strip(), days, start, end, zone)


def _parse_days(days: str, text: str) -> frozenset[int]:
    """Parse weekdays such as `Mon-Fri` or `Sat,Sun`. A range may pass the end of the week: `Sat-Mon`."""
    found: set[int] = set()
    for part in days.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"{part!r} in {text!r} is not a weekday or a range: write {', '.join(DAYS)}, or Mon-Fri")
        begin, length = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7
        found.update((begin + step) % 7 for step in range(length + 1))
    return frozenset(found)
