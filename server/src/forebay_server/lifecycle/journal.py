"""What the processes of vLLM tell the server's main process while they start: steps and errors, as lines in a file.

vLLM loads `listen` in each of its processes by the entry point vllm.general_plugins; it hears vLLM's log there. Only so
is the real cause of a failed start known: what vLLM itself passes on is "Engine core initialization failed. See root
cause above".
"""

import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forebay_server.lifecycle.diagnosis import Evidence
from forebay_server.lifecycle.startup import Step

VARIABLE = "FOREBAY_JOURNAL"
"""Names the file to the processes of the engine; set by `begin` for them, not by users."""

LOG_STEPS = (
    (Step.LOADING_WEIGHTS, r"Starting to load model "),
    (
        Step.COMPILING,
        r"Starting torch\.compile|Dynamo bytecode transform|Directly load (?:the compiled|AOT)"
        r"|Profiling CUDA graph memory|Warming up model for the compilation",
    ),
)
"""Step -> what vLLM (0.32, 0.33) logs when it begins, if it begins."""

FATAL = re.compile(r"failed to start|fatal error|WorkerProc failed")
"""What vLLM logs, with the exception, when one of its processes ends."""

REGISTRY = "vllm.model_executor.models.registry"
"""The logger to which vLLM says UNREAD_CLASS."""

UNREAD_CLASS = "Error in inspecting model architecture"
"""What vLLM (0.32, 0.33) logs in the main process, with the exception, when it could not import a model's class; what
it raises is only "failed to be inspected. Please check the logs"."""

OTHER_ERRORS = 5
"""How many errors that do not end a process are kept of each: one may be the reason of what comes later."""

TEXT_LENGTH = 3000
"""Characters that are kept of an error: from its beginning and, as tracebacks say at their end what it was, its end."""


@dataclass(frozen=True)
class JournalEntry:
    """One line. `at` is in seconds of CLOCK_MONOTONIC, which all processes of a machine share."""

    at: float
    step: Step | None = None
    evidence: Evidence | None = None


class Journal:
    """The main process's end of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lock = threading.Lock()
        self.errors: list[Evidence] = []
        """All that was read so far, the earliest first."""

    def news(self) -> list[tuple[Step, float]]:
        """Steps that have begun since the last call. Errors go to `errors`."""
        steps = []
        with self._lock:
            for entry in self._read():
                if entry.step is not None:
                    steps.append((entry.step, entry.at))
                if entry.evidence is not None:
                    self.errors.append(entry.evidence)
        return steps

    def _read(self) -> Iterator[JournalEntry]:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = file.readlines()
        for line in lines:
            if not line.endswith(b"\n"):
                return
            self._offset += len(line)
            yield _parse(line)


def begin() -> Journal:
    """Open a new journal, for this process and those that it will start."""
    handle, path = tempfile.mkstemp(prefix="forebay-journal-")
    os.close(handle)
    os.environ[VARIABLE] = f"{os.getpid()}:{path}"
    return Journal(Path(path))


def listen() -> None:
    """Have the log of this process written to the journal: in a process of an engine of ours all that matters, in the
    main process, which itself catches what it raises, only what UNREAD_CLASS says."""
    owner, _, path = os.environ.get(VARIABLE, "").partition(":")
    if not path:
        return
    handler = JournalHandler(Path(path))
    if owner != str(os.getpid()):
        logging.getLogger("vllm").addHandler(handler)
        return

    def hear(record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(UNREAD_CLASS):
            handler.handle(record)
        return True

    # vLLM 0.33 sets its log up again once it has read its arguments, which takes handlers away and leaves filters
    logging.getLogger(REGISTRY).addFilter(hear)


class JournalHandler(logging.Handler):
    """Writes what matters of the log."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self._others = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except Exception:  # noqa: BLE001 - as every handler of logging does: what it cannot write must not end a model
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            if not FATAL.search(message):
                self._others += 1
                if self._others > OTHER_ERRORS:
                    return
            evidence = Evidence.of(record.exc_info[1])
            self._write({"names": sorted(evidence.names), "text": shortened(evidence.text)})
            return
        for step, pattern in LOG_STEPS:
            if re.search(pattern, message):
                self._write({"step": step})

    def _write(self, content: dict[str, object]) -> None:
        line = json.dumps({"at": time.monotonic(), **content}) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line.encode())  # in one piece: several processes write
        finally:
            os.close(descriptor)


def shortened(text: str) -> str:
    """At most TEXT_LENGTH characters and a mark of what is left out."""
    half = TEXT_LENGTH // 2
    return text if len(text) <= TEXT_LENGTH else f"{text[:half]} … {text[-half:]}"


def _parse(line: bytes) -> JournalEntry:
    content = json.loads(line)
    evidence = Evidence(frozenset(content["names"]), content["text"]) if "text" in content else None
    return JournalEntry(content["at"], Step(content["step"]) if "step" in content else None, evidence)
