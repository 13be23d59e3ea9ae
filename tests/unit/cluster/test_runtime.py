"""Containers start without the capabilities that the bounding set lacks."""

import json
import os
from pathlib import Path

import pytest

from cluster import runtime

EVERY = "Name:\tx\nCapBnd:\t000001ffffffffff\n"
NO_SYS_RESOURCE = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapBnd:\t000001fffeffffff\n"


@pytest.mark.parametrize(
    ("status", "last", "expected"),
    [
        (EVERY, 40, set()),
        (NO_SYS_RESOURCE, 40, {"CAP_SYS_RESOURCE"}),
        ("CapBnd:\t0000003fffffffff\n", 37, set()),
        ("CapBnd:\t0000003fffffffff\n", 40, {"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"}),
    ],
)
def test_missing_capabilities_are_read_from_the_bounding_set(status: str, last: int, expected: set[str]) -> None:
    assert runtime.missing(status, last) == expected


def test_only_available_capabilities_are_requested() -> None:
    process = {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "ambient": None}, "args": ["true"]}
    runtime.trim(process, runtime.bounding(NO_SYS_RESOURCE))
    assert process == {"capabilities": {"bounding": ["CAP_CHOWN"], "ambient": []}, "args": ["true"]}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--root", "/r", "create", "--bundle", "/b", "id"], "/b/config.json"),
        (["run", "-b=/b", "id"], "/b/config.json"),
        (["create", "id"], "./config.json"),
        (["exec", "--process", "/p.json", "id"], "/p.json"),
        (["exec", "id", "true"], None),
        (["delete", "--force", "id"], None),
        (["state", "id"], None),
    ],
)
def test_the_file_to_rewrite_is_the_one_that_runc_will_read(args: list[str], expected: str | None) -> None:
    assert runtime.asked(args) == expected


def test_the_file_is_rewritten_before_runc_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"process": {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_NOT_OF_THIS_KERNEL"]}}}))
    became: list[object] = []
    monkeypatch.setattr(os, "execvp", lambda *args: became.append(args))
    runtime.main(["create", "--bundle", str(tmp_path), "id"])
    assert json.loads(config.read_text())["process"]["capabilities"]["bounding"] in (["CAP_CHOWN"], [])
    assert became == [("runc", ["runc", "create", "--bundle", str(tmp_path), "id"])]
