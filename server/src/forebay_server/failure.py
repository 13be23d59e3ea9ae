"""Start failures as data, {"reason", "message", "remedy"}, for the operator and for people.

The server writes them as one line to the pod's termination log. The operator copies it to the endpoint's status.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forebay_protocol.pod import EXIT_CONFIGURATION

EXIT_FAILURE = 1

TERMINATION_LOG_BYTES = 4096
"""The size of a termination log that the kubelet keeps."""


@dataclass(frozen=True)
class Failure:
    """Why a start failed. `reason` is one CamelCase word, `message` says what happened, `remedy` what to change."""

    reason: str
    message: str
    remedy: str
    exit_status: int = EXIT_CONFIGURATION

    def line(self) -> str:
        """Render one line of JSON that fits the termination log. A long message is truncated, the remedy never."""

        def render(message: str) -> str:
            return json.dumps({"reason": self.reason, "message": message, "remedy": self.remedy})

        excess = len(render(self.message)) - (TERMINATION_LOG_BYTES - 1)
        if excess <= 0:
            return render(self.message)
        message = self.message
        while len(render(message + "…")) > TERMINATION_LOG_BYTES - 1:
            message = message[: len(message) * 3 // 4]
        return render(message + "…")


class StartError(Exception):
    """Raised to stop the start; carries the Failure to report."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def invalid_configuration(message: str, remedy: str) -> StartError:
    """The StartError for an invalid setting."""
    return StartError(Failure("InvalidConfiguration", message, remedy))


def write_failure(failure: Failure, termination_log: Path) -> None:
    """Write the failure to the termination log and to stderr. Reports on stderr if the log cannot be written."""
    print(failure.line(), file=sys.stderr, flush=True)
    try:
        termination_log.write_text(failure.line() + "\n", encoding="utf-8")
    except OSError as error:
        print(f"The termination log {termination_log} could not be written: {error}", file=sys.stderr, flush=True)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and its causes, outermost first."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
