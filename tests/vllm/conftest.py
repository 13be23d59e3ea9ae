"""Tests that need vLLM (and its libraries) installed: run by `pytest tests/vllm` with FOREBAY_VLLM_PYTHON set to the
Python of an environment that has vLLM and forebay-server."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tests.e2e.hub import Faults, Hub, Repository

REPOSITORY = "acme/tiny"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def vllm_python() -> str:
    python = os.environ.get("FOREBAY_VLLM_PYTHON", "")
    if not python:
        pytest.skip("FOREBAY_VLLM_PYTHON does not name a Python that has vLLM")
    return python


def environment(tmp_path: Path, more: Mapping[str, str] = {}) -> dict[str, str]:
    """Nothing of the caller's but what programs need, every cache under `tmp_path`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BASE_PATH": str(tmp_path / "cache"),
        "HF_HOME": str(tmp_path / "cache"),
        "FOREBAY_TERMINATION_LOG": str(tmp_path / "termination-log"),
        "FOREBAY_AUTH": "None",
        **more,
    }


@contextmanager
def serving(folder: Path, faults: Faults | None = None, token: str = "") -> Iterator[Hub]:
    """The stand-in for the hub, on a free port of this machine."""
    hub = Hub(("127.0.0.1", 0), Repository(REPOSITORY, folder, token), faults)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def endpoint(hub: Hub) -> str:
    return f"http://127.0.0.1:{hub.server_address[1]}"
