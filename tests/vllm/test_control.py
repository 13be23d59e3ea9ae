"""Engine control on a real server: sleep and wake, also under load; an adapter as a model; a profile."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fetch import fetch
from tests.vllm.server import Server, environment
from tests.vllm.test_drain import Stream, in_flight
from tests.vllm.test_liveness import CANNED
from tests.vllm.weights import with_weights

Serve = Callable[..., Server]

TOKEN = "a-token-for-control-alone"

ADAPTER = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
folder, rank = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir()
layer = "base_model.model.model.layers.0.self_attn.q_proj"
config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"]}
(folder / "adapter_config.json").write_text(json.dumps(config))
torch.manual_seed(0)
weights = {f"{layer}.lora_A.weight": torch.randn(rank, 64), f"{layer}.lora_B.weight": torch.randn(64, rank)}
save_file(weights, folder / "adapter_model.safetensors")
"""


class Controlled:
    """A ready server that was started with `with_token`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.wait_for("/readyz")

    def control(self, target: str, body: object = None, token: str = TOKEN, method: str = "POST") -> tuple[int, Any]:
        return send(f"http://127.0.0.1:{self.server.ops_port}{target}", body, token, method)

    def complete(self, model: str | None = None) -> tuple[int, Any]:
        body = {"prompt": "Hello", "max_tokens": 4, "temperature": 0, **({"model": model} if model else {})}
        return send(f"http://127.0.0.1:{self.server.port}/v1/completions", body)

    def models(self) -> list[str]:
        _, answer = send(f"http://127.0.0.1:{self.server.port}/v1/models", None, method="GET")
        return [str(card["id"]) for card in answer["data"]]


def with_token(folder: Path) -> dict[str, str]:
    """The variable that gives the control a token."""
    tokens = folder / "control"
    tokens.mkdir()
    (tokens / "token").write_text(TOKEN)
    return {"FOREBAY_CONTROL_DIR": str(tokens)}


def send(url: str, body: object, token: str = "", method: str = "POST") -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = b"" if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content if method == "POST" else None, headers, method=method)
    status, text = fetch(request, 60)
    return status, json.loads(text)


def test_an_engine_sleeps_wakes_loads_adapters_and_is_profiled(
    vllm_python: str, tiny_model: Path, serve: Serve, tmp_path: Path
) -> None:
    """With weights, since those that level 2 drops are read again."""
    profile = tmp_path / "profile"
    server = serve(
        MODEL_NAME=str(with_weights(vllm_python, tiny_model, tmp_path / "model")),
        LOAD_FORMAT="auto",
        FOREBAY_ENGINE_STUCK_SECONDS="2",
        FOREBAY_ENGINE_PROBE_SECONDS="1",
        ENABLE_LORA="true",
        PROFILER_CONFIG=json.dumps({"profiler": "torch", "torch_profiler_dir": str(profile)}),
        **with_token(tmp_path),
    )
    controlled = Controlled(server)
    sleeps_and_wakes(controlled)
    takes_adapters(controlled, vllm_python, tmp_path)
    assert controlled.control("/start_profile") == (200, {"status": "profiling"})
    assert controlled.complete()[0] == 200
    assert controlled.control("/stop_profile") == (200, {"status": "stopped"})
    assert [*profile.iterdir()]


def sleeps_and_wakes(controlled: Controlled) -> None:
    server = controlled.server
    assert controlled.control("/sleep", token="")[0] == 401
    assert controlled.control("/sleep", token="another-token-of-some-length")[0] == 401
    status, before = controlled.complete()
    assert status == 200
    for level in (0, 1, 2):
        assert controlled.control(f"/sleep?level={level}") == (200, {"status": "sleeping", "level": level})
        assert controlled.control("/is_sleeping", method="GET") == (200, {"is_sleeping": True})
        assert json.loads(server.wait_for("/readyz", 503, 5))["reason"] == "sleeping"
        assert controlled.complete()[0] == 503
        # longer than what counts as wedged, and than what makes a probe due
        server.wait_for_metric("forebay_engine_idle_seconds", lambda idle: idle > 4)
        assert server.ops("/livez")[0] == 200
        assert controlled.control("/wake_up")[0] == 200
        assert server.ops("/readyz")[0] == 200
        assert controlled.control("/is_sleeping", method="GET") == (200, {"is_sleeping": False})
        status, after = controlled.complete()
        assert (status, after["choices"][0]["text"]) == (200, before["choices"][0]["text"])


def takes_adapters(controlled: Controlled, vllm_python: str, folder: Path) -> None:
    for rank in (8, 64):
        command = [vllm_python, "-c", ADAPTER, str(folder / f"rank-{rank}"), str(rank)]
        subprocess.run(command, check=True, env=environment(folder), timeout=120)

    def load(name: str, path: str) -> tuple[int, Any]:
        return controlled.control("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder / path)})

    assert controlled.complete("sql")[0] == 404
    assert load("sql", "rank-8")[0] == 200
    assert "sql" in controlled.models()
    status, answer = controlled.complete("sql")
    assert (status, answer["model"]) == (200, "sql")
    assert load("sql", "rank-8")[0] == 400, "it is there already"
    status, answer = load("other", "rank-64")
    assert status == 400
    assert "rank" in answer["error"]["message"]
    assert load("other", "none")[0] == 404
    assert controlled.control("/v1/load_lora_adapter", {"lora_name": "x"})[0] == 400
    assert controlled.control("/v1/unload_lora_adapter", {"lora_name": "sql"})[0] == 200
    assert controlled.control("/v1/unload_lora_adapter", {"lora_name": "sql"})[0] == 404
    assert controlled.complete("sql")[0] == 404
    assert "sql" not in controlled.models()
    assert send(f"http://127.0.0.1:{controlled.server.port}/v1/load_lora_adapter", {})[0] == 404


@pytest.fixture(scope="module")
def canned(vllm_python: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    """Canned answers, without adapters and profiler."""
    folder = tmp_path_factory.mktemp("control")
    variables = {"MODEL_NAME": str(tiny_model), "MAX_NUM_SEQS": "64", **CANNED, **with_token(folder)}
    server = Server(vllm_python, folder, variables)
    try:
        yield Controlled(server)
    finally:
        server.end()


@pytest.mark.parametrize("mode", ["wait", "keep"])
def test_sleep_does_not_cut_running_streams(canned: Controlled, mode: str) -> None:
    server = canned.server
    streams = [Stream(server) for _ in range(50)]
    while in_flight(server) < len(streams):
        time.sleep(0.1)
    assert canned.control(f"/sleep?level=1&mode={mode}")[0] == 200
    assert server.ops("/livez")[0] == 200
    if mode == "wait":
        assert in_flight(server) == 0
    assert canned.control("/wake_up")[0] == 200
    for stream in streams:
        stream.join()
    assert [stream.error for stream in streams if stream.error] == []
    assert {(stream.done, stream.tokens) for stream in streams} == {(True, 200)}


def test_actions_that_the_engine_was_not_started_for_are_reported(canned: Controlled) -> None:
    for target, setting in (("/start_profile", "PROFILER_CONFIG"), ("/v1/load_lora_adapter", "ENABLE_LORA")):
        status, answer = canned.control(target, {})
        assert status == 400
        assert setting in answer["error"]["message"]
