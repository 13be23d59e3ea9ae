"""Servers with tiny models, and questions to them under both base URLs."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.vllm.conftest import Server, environment

BASES = ("/v1", "/v2/any-id/openai/v1")

both_urls = pytest.mark.parametrize("base", BASES)

NAME = "tiny"
"""What every model is served as."""

SECONDS = 60.0


def made(python: str, kind: str, tokenizer: Path, folder: Path) -> Path:
    """The folder of a tiny model, or adapter, of this kind: see make_models.py."""
    target = folder / kind
    command = [python, str(Path(__file__).parent / "make_models.py"), kind, str(tokenizer), str(target)]
    subprocess.run(command, check=True, env=environment(folder), timeout=120, capture_output=True)
    return target


@contextmanager
def running(python: str, folder: Path, variables: Mapping[str, str]) -> Iterator[Server]:
    """forebay-server, ready."""
    server = Server(python, folder, {"OPENAI_SERVED_MODEL_NAME_OVERRIDE": NAME, **variables})
    try:
        server.wait_for("/readyz")
        yield server
    finally:
        server.end()


def post(server: Server, path: str, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    """The status and the text of the answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", body, {"content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask(server: Server, path: str, **body: Any) -> tuple[int, Any]:
    """The status and the JSON of the answer."""
    status, text = post(server, path, json.dumps(body).encode())
    return status, json.loads(text)


def events(server: Server, path: str, **body: Any) -> list[dict[str, Any]]:
    """The events of a streamed answer."""
    status, text = post(server, path, json.dumps({**body, "stream": True}).encode())
    assert status == 200, text
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def send_file(server: Server, path: str, file: bytes, **fields: str) -> tuple[int, str]:
    """A form with a file of sound."""
    edge = "edge-of-a-part"
    parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
             for name, value in fields.items()]  # fmt: skip
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = "".join([*parts, head]).encode() + file + f"\r\n--{edge}--\r\n".encode()
    return post(server, path, body, f"multipart/form-data; boundary={edge}")


def client(server: Server, base: str) -> OpenAI:
    """The official client, which does not try again."""
    return OpenAI(base_url=f"http://127.0.0.1:{server.port}{base}", api_key="any", max_retries=0, timeout=SECONDS)


def assert_not_available(answer: tuple[int, Any]) -> None:
    """The clear word for what the loaded model cannot do."""
    status, content = answer
    assert (status, content["error"]["code"]) == (404, "not_available_for_model"), content
    assert content["error"]["message"].endswith("is not available for this model.")
