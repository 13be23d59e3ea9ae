"""Engine control: permissions, calls to the engine, and answers."""

import asyncio
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forebay_server import vllm_compat
from forebay_server.lifecycle.liveness import EngineWatch, Patience
from forebay_server.lifecycle.startup import Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.serving.engine import Abilities, Engine
from forebay_server.serving.engine_control import BODY_BYTES, CONTROL_OPERATIONS, Control, ControlRequest
from forebay_server.serving.key_ring import KeyRing
from forebay_server.serving.ops_server import OpsServer
from tests.kubectl import wait_for

TOKEN = "control-token-0123456789"
ALL = Abilities(sleep_mode=True, adapters=True, profiler=True)


class Client:
    """The used part of vLLM's EngineClient."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails
        self.asleep = False

    def _do(self, *call: Any) -> None:
        if call[0] == self.fails:
            raise RuntimeError("no")
        self.calls.append(call)

    async def is_sleeping(self) -> bool:
        return self.asleep

    async def sleep(self, level: int, mode: str) -> None:
        self._do("sleep", level, mode)
        self.asleep = True

    async def wake_up(self, tags: list[str] | None) -> bool:
        self._do("wake_up", tags)
        self.asleep = tags == ["weights"]
        return not self.asleep

    async def collective_rpc(self, method: str) -> None:
        self._do(method)

    async def start_profile(self) -> None:
        self._do("start_profile")

    async def stop_profile(self) -> None:
        self._do("stop_profile")


class Bench:
    """An engine with a client that records its calls, and the control in front of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path, client: Client, abilities: Abilities) -> None:
        (folder / "token").write_text(TOKEN)
        self.state = ServerState(step=Step.READY)
        self.client = client
        self.answers = True
        watch = EngineWatch(Patience(), lambda: {0: 1})
        engine = Engine(client, lambda: "models", abilities, state=self.state, watch=watch, probe=self._probe)
        self.control = Control(KeyRing(folder))
        self.control.attach(lambda: None if self.state.draining else engine, loop)

    async def _probe(self) -> None:
        self.client.calls.append(("asked",))
        if not self.answers:
            raise RuntimeError("silence")

    def __call__(self, target: str, method: str = "POST", token: str = TOKEN, body: bytes = b"") -> tuple[int, Any]:
        request = ControlRequest(method, target, f"Bearer {token}", len(body), lambda size: body[:size])
        status, content, _ = self.control.answer(request)
        return int(status), content


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def bench(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Bench:
    return Bench(loop, tmp_path, Client(), ALL)


@pytest.mark.parametrize("path", CONTROL_OPERATIONS)
def test_every_action_needs_the_token(bench: Bench, path: str) -> None:
    for token in ("", "another-token-0123456789"):
        status, content = bench(path, CONTROL_OPERATIONS[path][0], token)
        assert (status, content["error"]["code"]) == (401, "invalid_control_token")
    assert not bench.client.calls


def test_without_its_own_token_control_is_disabled() -> None:
    status, content, _ = Control(None).answer(ControlRequest("POST", "/sleep", f"Bearer {TOKEN}", 0, bytes))
    assert (int(status), content["error"]["code"]) == (403, "control_off")  # type: ignore[index]


@pytest.mark.parametrize(
    ("target", "calls"),
    [
        ("/sleep", [("sleep", 1, "wait")]),
        ("/sleep?level=2&mode=abort", [("sleep", 2, "abort")]),
        ("/wake_up", [("wake_up", None), ("asked",)]),
        ("/wake_up?tags=weights", [("wake_up", ["weights"])]),
        ("/start_profile", [("start_profile",)]),
        ("/stop_profile", [("stop_profile",)]),
    ],
)
def test_each_action_reaches_the_engine(bench: Bench, target: str, calls: list[tuple[Any, ...]]) -> None:
    assert bench(target)[0] == 200
    assert bench.client.calls == calls


@pytest.mark.parametrize(
    ("target", "body", "says"),
    [
        ("/sleep?level=3", b"", "it must be 0, 1 or 2"),
        ("/sleep?mode=now", b"", "one of wait, abort, keep"),
        ("/sleep?after=soon", b"", "it must be 0 to 300 seconds"),
        ("/sleep?after=301", b"", "it must be 0 to 300 seconds"),
        (f"/sleep?after={'9' * 5000}", b"", "it must be 0 to 300 seconds"),
        ("/v1/load_lora_adapter", b"[" * 4_000, "not JSON"),
        ("/wake_up?tags=all", b"", "the tags are weights and kv_cache"),
        ("/sleep", b"{", "is not JSON"),
        ("/sleep", b"[]", "must be a JSON object"),
    ],
)
def test_invalid_calls_are_reported(bench: Bench, target: str, body: bytes, says: str) -> None:
    status, content = bench(target, body=body)
    assert status == 400
    assert says in content["error"]["message"]
    assert not bench.client.calls


def test_a_large_body_is_not_read(bench: Bench) -> None:
    assert bench("/sleep", body=bytes(BODY_BYTES + 1))[0] == 413


def test_a_wrong_method_gets_405(bench: Bench) -> None:
    assert bench("/sleep", "GET")[0] == 405
    assert bench("/is_sleeping", "POST")[0] == 405


def test_a_sleeping_engine_rejects_requests_and_is_healthy(bench: Bench) -> None:
    bench("/sleep")
    assert bench("/is_sleeping", "GET") == (200, {"is_sleeping": True})
    assert bench.state.not_ready_because() == "sleeping"
    assert bench.state.unhealthy_reason() == ""
    bench("/wake_up?tags=weights")
    assert bench.state.not_ready_because() == "sleeping", "the KV cache is still unloaded"
    bench("/wake_up?tags=kv_cache")
    assert bench.state.not_ready_because() == ""


@pytest.mark.parametrize("asked", [False, True])
def test_an_engine_is_not_ready_before_it_sleeps_and_a_request_cancels_the_sleep(bench: Bench, asked: bool) -> None:
    with ThreadPoolExecutor() as pool:
        sleeping = pool.submit(bench, "/sleep?after=1")
        wait_for(lambda: bench.state.not_ready_because() == "about to sleep", "it is not ready")
        assert not bench.state.asleep
        bench.state.in_flight.begun += asked
        assert sleeping.result(10) == (200, {"status": "awake" if asked else "sleeping", "level": 0 if asked else 1})
    assert bench.state.not_ready_because() == ("" if asked else "sleeping")
    assert bench.client.calls == ([] if asked else [("sleep", 1, "wait")])


def test_dropped_weights_are_loaded_again(bench: Bench) -> None:
    bench("/sleep?level=2")
    bench("/wake_up")
    assert bench.client.calls[1:] == [
        ("wake_up", ["weights"]),
        ("reload_weights",),
        ("wake_up", ["kv_cache"]),
        ("asked",),
    ]
    bench("/wake_up")
    assert bench.client.calls[-2:] == [("wake_up", None), ("asked",)]


def test_an_engine_that_does_not_answer_after_sleep_stays_not_ready(bench: Bench) -> None:
    bench.answers = False
    bench("/sleep")
    status, content = bench("/wake_up")
    assert (status, content["error"]["message"]) == (500, "RuntimeError: silence")
    assert bench.state.not_ready_because() == "sleeping"
    bench.answers = True
    assert bench("/wake_up")[0] == 200
    assert bench.state.not_ready_because() == ""


def test_an_engine_that_failed_to_sleep_continues_serving(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    bench = Bench(loop, tmp_path, Client(fails="sleep"), ALL)
    assert bench("/sleep")[0] == 500
    assert bench.state.not_ready_because() == ""


@pytest.mark.parametrize(
    ("target", "setting"),
    [
        ("/sleep?level=1", "ENABLE_SLEEP_MODE=true"),
        ("/sleep?level=2", "ENABLE_SLEEP_MODE=true"),
        ("/v1/load_lora_adapter", "ENABLE_LORA=true"),
        ("/v1/unload_lora_adapter", "ENABLE_LORA=true"),
        ("/start_profile", "PROFILER_CONFIG"),
    ],
)
def test_actions_that_the_engine_was_not_started_for_are_rejected(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, target: str, setting: str
) -> None:
    bench = Bench(loop, tmp_path, Client(), Abilities())
    status, content = bench(target)
    assert status == 400
    assert setting in content["error"]["message"]
    assert not bench.client.calls
    assert bench("/sleep?level=0")[0] == 200


@pytest.mark.parametrize(
    ("said", "status"), [((200, "Success"), 200), ((404, "cannot be found"), 404), ((500, "rank 64"), 400)]
)
def test_loading_an_adapter_returns_vllms_message(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, said: tuple[int, str], status: int
) -> None:
    seen = []

    async def load(models: Any, fields: Mapping[str, Any]) -> tuple[int, str]:
        seen.append((models, fields))
        return said

    monkeypatch.setattr(vllm_compat, "load_adapter", load)
    answer = bench("/v1/load_lora_adapter", body=b'{"lora_name": "sql", "lora_path": "/a"}')
    assert seen == [("models", {"lora_name": "sql", "lora_path": "/a"})]
    assert answer[0] == status
    assert said[1] in json.dumps(answer[1])


def test_a_draining_server_ignores_sleep(bench: Bench) -> None:
    bench.state.draining = True
    assert bench("/sleep")[0] == 503
    assert not bench.client.calls


@contextmanager
def listening(control: Control) -> Iterator[str]:
    with OpsServer("127.0.0.1", 0, ServerState(), bytes) as server:
        server.attach_control(control)
        server.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(("length", "status"), [("9" * 5000, b"413"), ("999999999999", b"413"), ("\u0663", b"200")])
def test_an_invalid_content_length_is_rejected(bench: Bench, length: str, status: bytes) -> None:
    with (
        listening(bench.control) as base,
        socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2]))) as asking,
    ):
        head = f"POST /sleep HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
        asking.sendall(head.encode())
        assert asking.recv(20).split()[1] == status


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/v1/load_lora_adapter", TOKEN, 400),
        ("/sleep", TOKEN, 200),
        ("/sleep", "", 401),
        ("/sleep?level=1", "", 401),
        ("/readyz", TOKEN, 404),
        ("//sleep", "", 401),
        ("/./sleep", "", 404),
    ],
)
def test_the_ops_port_requires_the_token(bench: Bench, path: str, token: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with listening(bench.control) as base:
        request = urllib.request.Request(base + path, b"[]" if status == 400 else b"", headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                outcome: tuple[int, str | None] = answer.status, None
        except urllib.error.HTTPError as error:
            with error:
                outcome = error.code, error.headers["WWW-Authenticate"]
    assert outcome == (status, "Bearer" if status == 401 else None)
