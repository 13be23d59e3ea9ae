"""Tests that need vLLM and forebay-server, of the Python that runs them or of the one named by FOREBAY_VLLM_PYTHON."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path

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
    command = [vllm_python, str(ROOT / "cluster/images/server-canned/make_model.py"), str(folder)]
    subprocess.run(command, check=True, env=environment(folder.parent), timeout=120)
    return folder


@pytest.fixture(scope="session")
def models(vllm_python: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The folders of all tiny models."""
    return Models.make(vllm_python, tiny_model, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def served(vllm_python: str, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The ready server of one of MODELS: started when a test first asks for it, shared by all of them. It takes KEY."""
    keys = tmp_path_factory.mktemp("keys")
    (keys / "one").write_text(KEY)
    with ExitStack() as servers:

        @cache
        def server(name: str) -> Server:
            folder = tmp_path_factory.mktemp(name)
            variables = {
                "MIDDLEWARE": list_routes.MIDDLEWARE,
                list_routes.VARIABLE: str(folder / ROUTES_FILE),
                "OPENAI_SERVED_MODEL_NAME_OVERRIDE": NAME,
                "FOREBAY_AUTH": "APIKey",
                "FOREBAY_KEYS_DIR": str(keys),
                **MODELS[name].environment(models),
            }
            started = Server(vllm_python, folder, variables)
            servers.callback(started.end)
            started.wait_for("/readyz")
            _, started.first_metrics = started.ops("/metrics")
            return started

        yield server


@pytest.fixture(scope="session")
def writer(served: Served) -> Server:
    return served("writer")


@pytest.fixture(scope="session")
def canned(served: Served) -> Server:
    return served("canned")


@pytest.fixture(scope="session")
def llava(served: Served) -> Server:
    return served("llava")


@pytest.fixture(scope="session")
def classifier(served: Served) -> Server:
    return served("classifier")


@pytest.fixture(scope="session")
def scorer(served: Served) -> Server:
    return served("scorer")


@pytest.fixture(scope="session")
def embedder(served: Served) -> Server:
    return served("embedder")


@pytest.fixture(scope="session")
def whisper(served: Served) -> Server:
    return served("whisper")


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
