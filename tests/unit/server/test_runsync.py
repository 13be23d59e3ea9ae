"""/runsync: RunPod's envelope around a job, for clients and for the gateway."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from forebay_server.asgi import Message, Receive, Scope, Send
from forebay_server.config.settings import JobSettings
from forebay_server.jobs.runsync import NOT_HERE, RunSync, run
from forebay_server.jobs.transport import WithinProcess


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


class App:
    """Answers completions with the prompt; a prompt of "wait" is never answered, "crash" crashes."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.seen: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        body = (await receive()).get("body", b"")
        if scope["path"] == "/v1/models":
            await self.reply(send, {"data": [{"id": "served"}]})
            return
        request = json.loads(body) if body else {}
        if request.get("prompt") == "crash":
            raise RuntimeError("/opt/secret/path")
        if request.get("prompt") == "wait":
            self.begun.set()
            try:
                await receive()
            finally:
                self.ended.set()
            return
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        text = f"{request.get('model')}: {request.get('prompt')}"
        await self.reply(send, {"choices": [{"index": 0, "text": text}], "usage": usage})

    async def reply(self, send: Send, content: object) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})


class Client:
    """One request; `leave` is its disconnect."""

    def __init__(self, body: object, method: str = "POST", path: str = "/v2/any-id/runsync") -> None:
        self.scope: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(b"authorization", b"Bearer k"), (b"x-request-id", b"r1"), (b"content-type", b"text/plain")],
        }
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.leaving = asyncio.Event()
        self.sent: list[Message] = []
        self.read = False

    async def receive(self) -> Message:
        if not self.read:
            self.read = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.leaving.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def ask(self, server: RunSync) -> tuple[int, Any]:
        await server(self.scope, self.receive, self.send)
        return self.sent[0]["status"], json.loads(self.sent[1]["body"])


async def test_runsync_answers_with_runpods_envelope() -> None:
    app = App()
    status, answer = await Client({"input": {"prompt": "Hi"}}).ask(RunSync(app, JobSettings()))
    assert status == 200
    assert answer.keys() == {"delayTime", "executionTime", "id", "output", "status", "workerId"}
    assert answer["workerId"] == socket.gethostname()
    assert answer["id"].startswith("sync-")
    assert answer["status"] == "COMPLETED"
    assert answer["output"] == [{"choices": [{"tokens": ["served: Hi"]}], "usage": {"input": 1, "output": 1}}]
    request = dict(app.seen[-1]["headers"])
    assert request[b"x-request-id"] == b"r1"
    assert request[b"content-type"] == b"application/json"
    assert b"authorization" not in request


@pytest.mark.parametrize(
    "content",
    [
        {"openai_route": "/v1/completions", "openai_input": {"prompt": "Hi"}},
        {"route": "/v1/completions", "body": {"prompt": "Hi", "model": ""}},
        {"prompt": "Hi", "sampling_params": {"n": 1}},
    ],
)
async def test_every_form_of_input_without_a_model_uses_the_served_model(content: dict[str, Any]) -> None:
    """With RAW_VLLM_OUTPUT, each gets vLLM's JSON."""
    _, answer = await Client({"input": content}).ask(RunSync(App(), JobSettings(raw_vllm_output=True)))
    (item,) = answer["output"]
    assert item["choices"] == [{"index": 0, "text": "served: Hi"}]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (
            {"prompt": "Hi"},
            [
                {"output": {"choices": [{"tokens": ["served: Hi"]}], "usage": {"input": 1, "output": 1}}},
                {"status": "COMPLETED"},
            ],
        ),
        (
            {
                "route": "/v1/completions",
                "whole_answer": True,
                "body": {"prompt": "Hi", "guided_regex": "a", "guided_grammar": "b"},
            },
            [
                {
                    "output": {
                        "status_code": 400,
                        "body": {
                            "error": {
                                "message": "Send one of guided_regex and guided_grammar, not both.",
                                "type": "invalid_request_error",
                                "param": "guided_grammar",
                                "code": "unsupported_parameter",
                            }
                        },
                    }
                },
                {"status": "COMPLETED"},
            ],
        ),
        ({"prompt": "crash"}, [{"error": "The server had an error while it ran the job.", "status": "FAILED"}]),
        ("no object", [{"error": "input must be an object.", "status": "FAILED"}]),
    ],
)
async def test_the_gateway_gets_the_output_line_by_line(content: object, lines: list[object]) -> None:
    client = Client({"input": content})
    client.scope["headers"].append((b"accept", b"application/x-ndjson"))
    await RunSync(App(), JobSettings())(client.scope, client.receive, client.send)
    head, *pieces, last = client.sent
    assert (head["status"], dict(head["headers"])[b"content-type"]) == (200, b"application/x-ndjson")
    assert [json.loads(each["body"]) for each in pieces] == lines, "each is sent as it comes"
    assert last == {"type": "http.response.body", "body": b""}


async def test_a_gateway_that_disconnects_ends_the_job() -> None:
    app, client = App(), Client({"input": {"prompt": "wait"}})
    client.scope["headers"].append((b"accept", b"application/x-ndjson"))
    asking = asyncio.create_task(RunSync(app, JobSettings())(client.scope, client.receive, client.send))
    await app.begun.wait()
    client.leaving.set()
    await asking
    assert app.ended.is_set()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"prompt": "crash"}, "The server had an error while it ran the job."),
        ({}, "input needs one of"),
        ({"route": "/metrics"}, "There is no GET /metrics here."),
        ({"route": "/v2/x/runsync", "body": {"input": {}}}, "There is no POST /v2/x/runsync here."),
        ({"route": "/v1/load_lora_adapter", "body": {"a": 1}}, "There is no POST /v1/load_lora_adapter here."),
        ({"openai_route": "/v1/../metrics"}, "There is no GET /v1/../metrics here."),
        ({"route": "/v1/models/\ud800"}, "The route must be a path"),
        ({"route": "/v1/models\n"}, "The route must be a path"),
        ({"route": "/x", "method": "\ud800"}, "There is no ? /x here."),
        ({"prompt": "Hi", "sampling_params": {"\ud800": 1}}, "sampling_params has no ?."),
        ({"prompt": "Hi", "sampling_params": {"x" * 1000: 1}}, f"sampling_params has no {'x' * 200}…."),
    ],
)
async def test_a_failed_job_says_why(content: object, error: str) -> None:
    status, answer = await Client({"input": content}).ask(RunSync(App(), JobSettings()))
    assert status == 200
    assert answer["status"] == "FAILED"
    assert "output" not in answer
    assert error in answer["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"input": {}, "policy": {"executionTimeout": "x"}}',
        b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
async def test_a_body_that_is_not_a_job_is_a_bad_request(body: bytes) -> None:
    status, answer = await Client(body).ask(RunSync(App(), JobSettings()))
    assert status == 400
    assert "input" in answer["error"]["message"]


@pytest.mark.parametrize("name", ["webhook", "s3Config"])
async def test_options_of_the_job_api_alone_are_rejected_by_name(name: str) -> None:
    app = App()
    status, answer = await Client({"input": {"prompt": "Hi"}, name: {"a": 1}}).ask(RunSync(app, JobSettings()))
    error = answer["error"]
    assert (status, error["message"], error["param"], app.seen) == (400, NOT_HERE[name], name, [])
    assert (await Client({"input": {"prompt": "Hi"}, name: None}).ask(RunSync(app, JobSettings())))[0] == 200


async def test_only_post_is_accepted() -> None:
    status, _ = await Client({}, method="GET").ask(RunSync(App(), JobSettings()))
    assert status == 405


async def test_a_slow_job_ends_at_the_limit_of_the_server_or_of_its_policy() -> None:
    for body, settings in (
        ({"input": {"prompt": "wait"}}, JobSettings(timeout=0.01)),
        ({"input": {"prompt": "wait"}, "policy": {"executionTimeout": 10**400}}, JobSettings(timeout=0.01)),
        ({"input": {"prompt": "wait"}, "policy": {"executionTimeout": 10}}, JobSettings()),
    ):
        app = App()
        _, answer = await Client(body).ask(RunSync(app, settings))
        assert answer["status"] == "TIMED_OUT"
        assert app.ended.is_set()


async def test_jobs_above_the_limit_get_retry_after() -> None:
    app = App()
    server = RunSync(app, JobSettings(max_concurrency=1))
    first = Client({"input": {"prompt": "wait"}})
    running = asyncio.create_task(server(first.scope, first.receive, first.send))
    await app.begun.wait()
    second = Client({"input": {"prompt": "Hi"}})
    status, _ = await second.ask(server)
    assert status == 429
    assert (b"retry-after", b"1") in second.sent[0]["headers"]
    first.leaving.set()
    await running
    assert app.ended.is_set()
    assert first.sent == []
    assert (await Client({"input": {"prompt": "Hi"}}).ask(server))[0] == 200


async def test_other_paths_pass_untouched() -> None:
    app = App()
    client = Client({}, path="/v2/any-id/openai/v1/models")
    await RunSync(app, JobSettings())(client.scope, client.receive, client.send)
    assert app.seen == [client.scope]


async def test_an_app_without_a_response_is_an_error() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    with pytest.raises(RuntimeError):
        async with WithinProcess(silent, Client({}).scope).send("GET", "/", None):
            pass


async def test_half_of_a_surrogate_pair_in_an_output_is_accepted() -> None:
    _, answer = await Client({"input": {"prompt": "Hi \ud83d"}}).ask(RunSync(App(), JobSettings()))
    assert answer["output"][0]["choices"] == [{"tokens": ["served: Hi ?"]}]
    client = Client({"input": {"prompt": "Hi \ud83d"}})
    client.scope["headers"].append((b"accept", b"application/x-ndjson"))
    await RunSync(App(), JobSettings())(client.scope, client.receive, client.send)
    assert json.loads(client.sent[-2]["body"]) == {"status": "COMPLETED"}


async def test_an_input_that_is_nested_too_deeply_is_reported() -> None:
    messages: list[Any] = []
    for _ in range(100_000):
        messages = [messages]
    transport = WithinProcess(App(), Client({}).scope)
    outcome = await run({"openai_input": {"messages": messages}}, transport, JobSettings(), seconds=60)
    assert outcome == {"error": "The input is nested too deeply.", "status": "FAILED"}
