"""The docker engine: failed pulls report the reason, and sizes count shared layers once."""

from pathlib import Path

import pytest

from cluster import docker


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("echo 'Error: toomanyrequests: rate limit' >&2; exit 1", "Error: toomanyrequests: rate limit"),
        ("echo 'first\nmanifest unknown' >&2; exit 1", "manifest unknown"),
        ("exec sleep 60", "no registry answered within 0.2 s"),
    ],
)
def test_the_reason_of_a_failed_pull_is_reported(
    says: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n[ $1 = pull ] || exit 1\n{says}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("FOREBAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(docker, "PULL_START_TIMEOUT", 0.2 if "sleep" in says else 15.0)
    assert not docker.pull("python:3.13-slim")
    assert capsys.readouterr().err == f"    python:3.13-slim can't be pulled, so it is built here: {reason}\n"


def test_a_layer_that_images_share_counts_once() -> None:
    base, one, other, apart = ("a",), ("a", "b"), ("a", "c", "d"), ("e",)
    known = {base: 100, one: 110, other: 125, apart: 7, ("e", "f"): 9}
    assert docker.union_size([one], known) == 110
    assert docker.union_size([one, other], known) == 135
    assert docker.union_size([one, other, base, apart], known) == 142
    assert docker.union_size([], known) == 0
