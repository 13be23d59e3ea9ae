"""Tests that need vLLM and forebay-server, of the Python that runs them or of the one named by FOREBAY_VLLM_PYTHON."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.vllm import list_routes
from tests.vllm.models import MODELS, Models
from tests.vllm.server import KEY, NAME, ROOT, ROUTES_FILE, Server, environment

Served = Callable[[str], Server]


@pytest.fixture(scope="session")
def vllm_python() -> str:
    here = sys.executable if find_spec("vllm") else ""
    python = os.environ.get("FOREBAY_VLLM_PYTHON", here)
    if not python:
        pytest.skip("FOREBAY_VLLM_PYTHON does not name a Python that has vLLM")
    return python


@pytest.fixture(scope="session")
def tiny_model(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without weights, for LOAD_FORMAT=dummy: 8,192 tokens, 1 layer, 2 heads, a byte tokenizer."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    command = [vllm_python, str(ROOT / "cluster/images/vllm-canned/make_model.py"), str(folder)]
    subprocess.run(command, check=True, env=environment(folder.parent), timeout=120)
    return folder


@pytest.fixture(scope="session")
def models(vllm_python: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The folders of all tiny models."""
    return Models.make(vllm_python, tiny_model, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def served(
    request: pytest.FixtureRequest, vllm_python: str, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Returns the ready server of one of MODELS. All tests share it; it accepts KEY.

    Each first request for a server also starts the next one, which gets ready while the tests of the first run.
    """
    keys = tmp_path_factory.mktemp("keys")
    (keys / "one").write_text(KEY)
    to_start = [name for name in MODELS if any(uses(item, name) for item in request.session.items)]
    servers: dict[str, Server] = {}

    def start(name: str) -> None:
        folder = tmp_path_factory.mktemp(name)
        variables = {
            "MIDDLEWARE": list_routes.MIDDLEWARE,
            list_routes.VARIABLE: str(folder / ROUTES_FILE),
            "OPENAI_SERVED_MODEL_NAME_OVERRIDE": NAME,
            "FOREBAY_AUTH": "APIKey",
            "FOREBAY_KEYS_DIR": str(keys),
            **MODELS[name].environment(models),
        }
        if name in to_start:
            to_start.remove(name)
        servers[name] = Server(vllm_python, folder, variables)

    @cache
    def server(name: str) -> Server:
        if name not in servers:
            start(name)
        if to_start:
            start(to_start[0])
        servers[name].wait_for("/readyz")
        _, servers[name].first_metrics = servers[name].ops("/metrics")
        return servers[name]

    yield server
    for started in servers.values():
        started.end()


def uses(item: pytest.Item, name: str) -> bool:
    """Whether a test needs the server of this model, by a fixture or by its parameter `model`."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return name in getattr(item, "fixturenames", ()) or parameters.get("model") == name


def shared(name: str) -> Any:
    """A fixture for the server of one of MODELS."""

    @pytest.fixture(scope="session", name=name)
    def server(served: Served) -> Server:
        return served(name)

    return server


writer = shared("writer")
canned = shared("canned")
llava = shared("llava")
classifier = shared("classifier")
scorer = shared("scorer")
embedder = shared("embedder")
whisper = shared("whisper")


@pytest.fixture
def serve(vllm_python: str, tmp_path: Path, tiny_model: Path) -> Iterator[Callable[..., Server]]:
    """Start forebay-server with the tiny model and these variables."""
    servers = []

    def start(**variables: str) -> Server:
        server = Server(vllm_python, tmp_path, {"MODEL_NAME": str(tiny_model), **variables})
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.end()
