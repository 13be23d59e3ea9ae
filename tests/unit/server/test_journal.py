"""Messages from the engine's processes to the main process."""

import logging
import logging.config
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay_server.lifecycle import journal
from forebay_server.lifecycle.journal import Journal, JournalHandler
from forebay_server.lifecycle.startup import Step


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.touch()
    return path


@pytest.fixture
def log(path: Path) -> logging.Logger:
    log = logging.Logger("vllm")
    log.addHandler(JournalHandler(path))
    return log


@pytest.mark.parametrize(
    ("message", "step"),
    [
        ("Starting to load model /model...", Step.LOADING_WEIGHTS),
        ("[backbone] Starting torch.compile", Step.COMPILING),
        ("Dynamo bytecode transform time: 4.31 s", Step.COMPILING),
        ("Directly load the compiled graph(s) for compile range (1, 8192) from the cache, took 1.2 s", Step.COMPILING),
        ("Profiling CUDA graph memory: PIECEWISE=51 (largest=512)", Step.COMPILING),
        ("Warming up model for the compilation...", Step.COMPILING),
    ],
)
def test_startup_steps_are_read_from_vllms_log(path: Path, log: logging.Logger, message: str, step: Step) -> None:
    before = time.monotonic()
    log.info(message)
    log.info("Loading weights took 2.10 seconds")
    ((reported, at),) = Journal(path).new_steps()
    assert reported is step
    assert before <= at <= time.monotonic()


def test_each_new_line_is_returned_once_and_complete(path: Path, log: logging.Logger) -> None:
    read = Journal(path)
    log.info("Starting to load model x...")
    assert len(read.new_steps()) == 1
    with path.open("a") as file:
        file.write('{"at": 1.0, "st')
    assert read.new_steps() == []
    with path.open("a") as file:
        file.write('ep": "Compiling"}\n')
    assert read.new_steps() == [(Step.COMPILING, 1.0)]


def test_errors_include_their_causes_up_to_a_limit(path: Path, log: logging.Logger) -> None:
    for number in range(100):
        try:
            raise OSError("outer") from ValueError(f"cause {number}")
        except OSError:
            log.exception("Something went wrong with a request")
    try:
        raise MemoryError("all gone")
    except MemoryError:
        log.exception("EngineCore failed to start.")
    read = Journal(path)
    read.new_steps()
    assert len(read.errors) == journal.MAX_OTHER_ERRORS + 1
    assert read.errors[0].text == "outer\ncause 0"
    assert {"OSError", "ValueError"} <= read.errors[0].names
    assert read.errors[-1].text == "all gone"


def test_a_long_error_is_cut_to_its_end(path: Path, log: logging.Logger) -> None:
    try:
        raise RuntimeError("Error raised in subprocess:" + 9000 * "x" + "No module named 'torchvision'")
    except RuntimeError:
        log.exception("Error in inspecting model architecture '%s'", "Llava")
    read = Journal(path)
    read.new_steps()
    assert read.errors[0].text.startswith("Error raised")
    assert read.errors[0].text.endswith("No module named 'torchvision'")
    assert len(read.errors[0].text) < journal.TEXT_LENGTH + 9


@pytest.fixture
def registry() -> Iterator[logging.Logger]:
    """vLLM's logger for model registration; restores it and the one above it afterwards."""
    logger, above = logging.getLogger(journal.REGISTRY), logging.getLogger("vllm")
    before = list(logger.filters), above.level, above.propagate
    yield logger
    logger.filters[:], above.level, above.propagate = before


def test_only_errors_that_the_main_process_does_not_raise_are_read_from_its_log(
    monkeypatch: pytest.MonkeyPatch, registry: logging.Logger
) -> None:
    script = "import logging; from forebay_server.lifecycle.journal import listen; listen()\n"
    script += "log = logging.getLogger('vllm')\n"
    script += "log.setLevel('INFO'); log.info('Starting to load model x...')"
    monkeypatch.setenv(journal.VARIABLE, "")
    read = journal.open_journal()
    journal.listen()
    vllm = {"handlers": [], "level": "INFO", "propagate": False}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": {"vllm": vllm}})
    for message in ("EngineCore failed to start.", "Error in inspecting model architecture 'Llava'"):
        try:
            raise ImportError(message)
        except ImportError:
            registry.exception(message)
    subprocess.run([sys.executable, "-c", script], check=True)
    assert [step for step, _ in read.new_steps()] == [Step.LOADING_WEIGHTS]
    assert [error.text for error in read.errors] == ["Error in inspecting model architecture 'Llava'"]
