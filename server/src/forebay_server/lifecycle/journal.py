"""The journal: a file in which vLLM's processes report steps and errors of the start to the server's main process.

vLLM loads `listen` in each of its processes by the entry point vllm.general_plugins. `listen` reads vLLM's log there.
Without `listen`, the main process would not learn the cause of a failed start: vLLM reports only "Engine core
initialization failed. See root cause above" to the main process.
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
"""The variable with the path of the file. `open_journal` sets it for the engine's processes; users do not."""

LOG_STEPS = (
    (Step.LOADING_WEIGHTS, r"Starting to load model "),
    (
        Step.COMPILING,
        r"Starting torch\.compile|Dynamo bytecode transform|Directly load (?:the compiled|AOT)"
        r"|Profiling CUDA graph memory|Warming up model for the compilation",
    ),
)
"""(step, pattern of the message that vLLM 0.32 and 0.33 log when the step begins). A start may lack a step."""

FATAL = re.compile(r"failed to start|fatal error|WorkerProc failed")
"""The messages that vLLM logs, with the exception, when one of its processes ends."""

REGISTRY = "vllm.model_executor.models.registry"
"""The logger for UNREAD_CLASS."""

UNREAD_CLASS = "Error in inspecting model architecture"
"""The message that vLLM 0.32 and 0.33 log in the main process, with the exception, if they cannot import a model class.
The exception that they raise only says "failed to be inspected. Please check the logs"."""

MAX_OTHER_ERRORS = 5
"""The most kept errors of a process that do not end the process. Such an error may be the cause of a later one."""

TEXT_LENGTH = 3000
"""The characters of an error that are kept: its beginning and its end. The end of a traceback is the error itself."""


@dataclass(frozen=True)
class JournalEntry:
    """One line of the file. `at` is in seconds of CLOCK_MONOTONIC, which all processes of a machine share."""

    at: float
    step: Step | None = None
    evidence: Evidence | None = None


class Journal:
    """Reads the file in the main process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lock = threading.Lock()
        self.errors: list[Evidence] = []
        """All errors read so far, the earliest first."""

    def new_steps(self) -> list[tuple[Step, float]]:
        """The steps that have begun since the last call, with their times. Adds new errors to `errors`."""
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


def open_journal() -> Journal:
    """Open a new journal for this process and its future children."""
    handle, path = tempfile.mkstemp(prefix="forebay-journal-")
    os.close(handle)
    os.environ[VARIABLE] = f"{os.getpid()}:{path}"
    return Journal(Path(path))


def listen() -> None:
    """Write relevant records of this process's log to the journal.

    The main process writes only records with UNREAD_CLASS, because it catches its own exceptions.
    """
    owner, _, path = os.environ.get(VARIABLE, "").partition(":")
    if not path:
        return
    handler = JournalHandler(Path(path))
    if owner != str(os.getpid()):
        logging.getLogger("vllm").addHandler(handler)
        return

    def handle(record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(UNREAD_CLASS):
            handler.handle(record)
        return True

    # vLLM 0.33 configures its log again after it has read its arguments: that removes handlers and keeps filters
    logging.getLogger(REGISTRY).addFilter(handle)


class JournalHandler(logging.Handler):
    """Writes steps and errors of the log to the journal."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self._others = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except Exception:  # noqa: BLE001 - as in every handler of logging: an unwritable record must not end a model
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            if not FATAL.search(message):
                self._others += 1
                if self._others > MAX_OTHER_ERRORS:
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
    """Shorten `text` to TEXT_LENGTH characters and an ellipsis for the omitted part."""
    half = TEXT_LENGTH // 2
    return text if len(text) <= TEXT_LENGTH else f"{text[:half]} … {text[-half:]}"


def _parse(line: bytes) -> JournalEntry:
    content = json.loads(line)
    evidence = Evidence(frozenset(content["names"]), content["text"]) if "text" in content else None
    return JournalEntry(content["at"], Step(content["step"]) if "step" in content else None, evidence)
