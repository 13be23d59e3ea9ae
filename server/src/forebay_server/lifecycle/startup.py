"""The progress of a start: its steps, the seconds spent in each, and the progress of a download.

The downloads and vLLM's log lines advance it. The ops port and the metrics report it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

RATE_WINDOW_SECONDS = 15.0
"""The rate of a download is the mean over this time. So it follows the network and does not jump."""


class Step(StrEnum):
    """The steps of a start, in their order. A start may skip steps."""

    IMPORTING = "Importing"
    DOWNLOADING = "Downloading"
    LOADING_WEIGHTS = "LoadingWeights"
    COMPILING = "Compiling"
    WARMING_UP = "WarmingUp"
    READY = "Ready"


_ORDER = list(Step)


class Startup:
    """The current step of the start, and the duration of each step. Safe in any thread."""

    def __init__(self, step: Step = Step.IMPORTING, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = [(step, clock())]

    @property
    def step(self) -> Step:
        """The current step."""
        return self._since[-1][0]

    def enter(self, step: Step, at: float | None = None) -> None:
        """Record that `step` has begun, now or `at` (seconds of the clock).

        A start never goes back: an earlier step has no effect. The engine's processes may report steps late.
        """
        with self._lock:
            current, since = self._since[-1]
            if _ORDER.index(step) > _ORDER.index(current):
                self._since.append((step, max(since, self._clock() if at is None else at)))

    def seconds(self) -> dict[Step, float]:
        """Step -> seconds spent in it, for the steps that have begun. Ready is not a step that takes time."""
        with self._lock:
            entered = list(self._since)
        ends = [since for _, since in entered[1:]] + [self._clock()]
        return {step: end - since for (step, since), end in zip(entered, ends, strict=True) if step is not Step.READY}


@dataclass(frozen=True)
class Progress:
    """The progress of a download, in bytes and seconds."""

    done: int
    total: int
    rate: float
    """Bytes a second over RATE_WINDOW_SECONDS; 0 if no data arrives."""

    @property
    def percent(self) -> int:
        """Percent that are done; 100 if there is nothing to download."""
        return min(100, self.done * 100 // self.total) if self.total else 100

    @property
    def eta_seconds(self) -> int | None:
        """Seconds until the end of the download; None if no data arrives."""
        return round((self.total - self.done) / self.rate) if self.rate else None


class Download:
    """Samples of the bytes that have arrived, from which the progress is computed."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, done: int) -> None:
        """Record that `done` bytes of the total have arrived by now."""
        now = self._clock()
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_WINDOW_SECONDS:
            self._samples.popleft()

    def progress(self) -> Progress:
        """The progress, from the last samples."""
        samples = list(self._samples)
        if not samples:
            return Progress(0, self.total, 0.0)
        (begin, first), (end, last) = samples[0], samples[-1]
        rate = max(0.0, (last - first) / (end - begin)) if end > begin else 0.0
        return Progress(last, self.total, rate)


def describe_startup(
    startup: Startup,
    download: Download | None,
    *,
    reasoning_parser: str = "",
    vllm_version: str = "",
    variables: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """The startup report as a JSON object: {"step", "seconds": {step: s}}.

    During the download it also has "percent", "bytes", "totalBytes", "bytesPerSecond" and, once known, "etaSeconds".
    "reasoningParser" is the parser that the model's family needs, if no parser is set. "vllmVersion" and "variables"
    are present once they are known. "variables" has the known names of the environment, with their status.
    """
    step = startup.step
    content: dict[str, object] = {
        "step": step,
        "seconds": {step: round(seconds, 3) for step, seconds in startup.seconds().items()},
    }
    if reasoning_parser:
        content["reasoningParser"] = reasoning_parser
    if vllm_version:
        content["vllmVersion"] = vllm_version
    if variables is not None:
        content["variables"] = dict(variables)
    if step is Step.DOWNLOADING and download is not None:
        progress = download.progress()
        content |= {
            "percent": progress.percent,
            "bytes": progress.done,
            "totalBytes": progress.total,
            "bytesPerSecond": round(progress.rate),
        }
        if progress.eta_seconds is not None:
            content["etaSeconds"] = progress.eta_seconds
    return content
