"""VLLM_STARTUP_TIMEOUT: ends a start that takes longer, and reports the reason.

The command line starts it before the downloads.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

from forebay_server.failure import EXIT_FAILURE, Failure, write_failure


def too_slow(seconds: float, step: str) -> Failure:
    """The failure of a start that was still at `step` after `seconds`."""
    return Failure(
        "StartupTimeout",
        f"The model did not answer within {seconds:g} s (VLLM_STARTUP_TIMEOUT); the start was at the step {step}.",
        "Raise the endpoint's rollout.startupTimeout, or VLLM_STARTUP_TIMEOUT where env sets it.",
        EXIT_FAILURE,
    )


def watch(seconds: float, waiting_at: Callable[[], str], termination_log: Path) -> None:
    """End the process after `seconds`, unless `waiting_at` then returns "" instead of the step of the start."""

    def end_if_late() -> None:
        if step := waiting_at():
            write_failure(too_slow(seconds, step), termination_log)
            for child in multiprocessing.active_children():
                child.kill()  # an engine in the middle of a step would not hear SIGTERM
            os._exit(EXIT_FAILURE)

    timer = threading.Timer(seconds, end_if_late)
    timer.daemon = True
    timer.start()
