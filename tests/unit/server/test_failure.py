"""Why a start failed, as data."""

import json
from pathlib import Path

import pytest

from forebay_server.failure import TERMINATION_LOG_BYTES, Failure, StartError, invalid_configuration, write_failure
from forebay_server.lifecycle.diagnosis import explain


class RepositoryNotFoundError(Exception):
    """Named as huggingface_hub's."""


class GatedRepoError(RepositoryNotFoundError):
    """Named as huggingface_hub's, which derives it so."""


class RevisionNotFoundError(Exception):
    """Named as huggingface_hub's."""


def wrapped(cause: Exception) -> Exception:
    """As transformers raises it."""
    try:
        raise OSError("We couldn't connect") from cause
    except OSError as error:
        return error


@pytest.mark.parametrize(
    ("error", "reason", "exit_status"),
    [
        (wrapped(GatedRepoError("403")), "GatedRepository", 78),
        (wrapped(RepositoryNotFoundError("401")), "RepositoryNotFound", 78),
        (RevisionNotFoundError("404"), "RevisionNotFound", 78),
        (RuntimeError("boom"), "StartFailed", 1),
        (invalid_configuration("wrong", "right"), "InvalidConfiguration", 78),
        (SystemExit(3), "StartFailed", 1),
    ],
)
def test_an_exception_becomes_reason_message_and_remedy(error: BaseException, reason: str, exit_status: int) -> None:
    failure = explain(error, "org/model")
    assert (failure.reason, failure.exit_status) == (reason, exit_status)
    assert failure.message
    assert failure.remedy


def test_a_cyclic_chain_of_causes_ends() -> None:
    error = RuntimeError("a")
    other = RuntimeError("b")
    error.__cause__, other.__cause__ = other, error
    assert explain(error, "m").reason == "StartFailed"


def test_the_termination_log_gets_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_failure(Failure("Why", "what\nhappened", "do this"), tmp_path / "log")
    written = (tmp_path / "log").read_text()
    assert written.count("\n") == 1
    assert json.loads(written) == {"reason": "Why", "message": "what\nhappened", "remedy": "do this"}
    assert capsys.readouterr().err == written


def test_a_log_that_cannot_be_written_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_failure(Failure("Why", "what", "do this"), tmp_path / "no" / "log")
    assert '"reason": "Why"' in capsys.readouterr().err


@pytest.mark.parametrize("message", ["x" * 9000, "ä" * 3000, '"' * 5000])
def test_a_long_message_is_cut_and_the_remedy_kept(message: str) -> None:
    line = Failure("Why", message, "do this").line()
    assert len(line.encode()) < TERMINATION_LOG_BYTES
    assert json.loads(line)["remedy"] == "do this"


def test_a_start_error_carries_its_failure() -> None:
    failure = Failure("Why", "what", "do this")
    assert explain(StartError(failure), "m") is failure
