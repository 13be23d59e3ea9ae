"""Keys and tokens in a real run: their access, and that no output shows them."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.fetch import fetch
from tests.kubectl import wait_for
from tests.vllm.server import REPOSITORY, Server, endpoint, serving
from tests.vllm.weights import with_weights

KEYS = {"old": "key-of-a-user-0123456789", "new": "key-of-another-0123456789"}
TOKEN = "token-of-control-0123456789"
HF_TOKEN = "hf_token-of-the-hub-0123456789"
SENT = "key-that-opens-nothing-0123456789"


def status(server: Server, key: str, body: bytes = b'{"prompt": "Hello", "max_tokens": 1}') -> int:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/v1/completions", body, headers)
    return fetch(request, 60)[0]


def test_keys_change_while_the_server_runs_and_are_never_logged(
    vllm_python: str, tiny_model: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    """With the most detailed logs. The token of the hub is a variable, as users give it; vLLM's processes need
    it for their own downloads, so only arguments, logs and answers are searched for it."""
    keys, control = tmp_path / "keys", tmp_path / "control"
    for folder in (keys, control):
        folder.mkdir()
    (keys / "one").write_text(KEYS["old"])
    (control / "token").write_text(TOKEN)
    model = with_weights(vllm_python, tiny_model, tmp_path / "model")
    with serving(model, token=HF_TOKEN) as hub:
        server = serve(
            MODEL_NAME=REPOSITORY,
            LOAD_FORMAT="auto",
            HF_ENDPOINT=endpoint(hub),
            HF_HUB_DISABLE_XET="1",
            HF_TOKEN=HF_TOKEN,
            FOREBAY_AUTH="APIKey",
            FOREBAY_KEYS_DIR=str(keys),
            FOREBAY_CONTROL_DIR=str(control),
            ENABLE_LOG_REQUESTS="true",
            VLLM_LOGGING_LEVEL="DEBUG",
        )
        server.wait_for("/readyz")
    assert status(server, KEYS["old"]) == 200
    assert status(server, KEYS["old"], b"{") == 400
    assert status(server, KEYS["new"]) == status(server, SENT) == status(server, TOKEN) == 401
    (keys / "two").write_text(KEYS["new"])
    wait_for(lambda: status(server, KEYS["new"]) == 200, "the folder is read")
    assert status(server, KEYS["old"]) == 200
    (keys / "one").unlink()
    wait_for(lambda: status(server, KEYS["old"]) == 401, "the folder is read")
    assert status(server, KEYS["new"]) == 200
    for process in (server.process.pid, *server.children()):
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().decode()
        variables = Path(f"/proc/{process}/environ").read_bytes().decode()
        assert not find_secrets(arguments, HF_TOKEN)
        assert not find_secrets(variables)
    for path in ("/metrics", "/startup", "/readyz"):
        assert not find_secrets(server.ops(path)[1], HF_TOKEN)
    server.end()
    log = server.log.read_text()
    assert "DEBUG" in log
    assert not find_secrets(log, HF_TOKEN)


def find_secrets(text: str, *more: str) -> list[str]:
    return [secret for secret in (*KEYS.values(), TOKEN, SENT, *more) if secret in text or json.dumps(secret) in text]
