"""The table of routes and tasks, compared with the app of each running server; every row is requested."""

import json
from typing import Any

import pytest

from forebay_server.lifecycle.warmup import second_of_silence
from forebay_server.serving.openapi_document import public
from forebay_server.serving.routes import is_reached
from tests.vllm.conftest import Served
from tests.vllm.media import silence_in_base64
from tests.vllm.models import MODELS
from tests.vllm.route import SOUND, Access, Route, differences
from tests.vllm.routes import LISTED, ROUTES, UNTESTED_TASKS, hidden, mismatches, rows
from tests.vllm.server import KEY, NAME, ROUTES_FILE, Server
from tests.vllm.server_calls import ask, request, send_file

pytestmark = pytest.mark.gate

every_model = pytest.mark.parametrize("model", LISTED)


def listed(server: Server) -> dict[str, Any]:
    """The tasks and routes that list_routes.py wrote."""
    content: dict[str, Any] = json.loads((server.folder / ROUTES_FILE).read_text())
    return content


@every_model
def test_the_table_has_the_routes_of_vllms_app(served: Served, model: str) -> None:
    app = [(method, path, name == "answer_not_available") for method, path, name in listed(served(model))["routes"]]
    assert mismatches(rows(model), app) == []


@every_model
def test_a_model_has_the_tasks_in_its_row(served: Served, model: str) -> None:
    assert set(listed(served(model))["tasks"]) == MODELS[model].tasks


def test_every_task_of_vllm_has_a_model_or_a_reason(served: Served) -> None:
    shown = {task for model in LISTED for task in MODELS[model].tasks}
    assert shown | set(UNTESTED_TASKS) == set(listed(served("writer"))["known tasks"])


def test_a_new_or_dropped_route_is_reported_by_name() -> None:
    app = [route.key for route in rows("writer")]
    assert mismatches(rows("writer"), app) == []
    assert mismatches(rows("writer"), [*app, ("POST", "/v1/novel", False)]) == ["POST /v1/novel has no row"]
    assert mismatches([*rows("writer"), hidden("GET", "/old")], app) == ["GET /old is gone from the app"]
    replaced = [(*key[:2], True) if key[1] == "/v1/messages" else key for key in app]
    assert mismatches(rows("writer"), replaced) == [
        "POST /v1/messages (not available) has no row",
        "POST /v1/messages is gone from the app",
    ]


def asked(route: Route, server: Server, url: str) -> tuple[int, str]:
    content = route.body
    if content and SOUND in content.values():
        fields = {name: str(value) for name, value in content.items() if value is not SOUND}
        return send_file(server, url, second_of_silence(), **fields)
    body = None if content is None else json.dumps(content).encode()
    return request(server, "GET" if route.method == "MOUNT" else route.method, url, body)


@pytest.mark.parametrize(
    ("model", "route"),
    [
        pytest.param(model, route, id=f"{model} {route.method} {route.path}")
        for model in LISTED
        for route in rows(model)
        if route.method != "WEBSOCKET"
    ],
)
def test_a_route_answers_as_documented_in_the_table(served: Served, model: str, route: Route) -> None:
    server = served(model)
    for url in route.urls:
        status, text = asked(route, server, url)
        assert status == route.status, text
        if route.shape is None:
            assert text == ""
        else:
            assert list(differences(route.shape, json.loads(text))) == []
        status, text = request(server, "POST" if route.method == "POST" else "GET", url, b"{}", key="")
        assert status == (200 if route.access is Access.OPEN else 401), text


@pytest.mark.parametrize("base", ["", "/v2/any-id/openai"])
def test_sound_is_transcribed_over_a_websocket(served: Served, base: str) -> None:
    websockets = pytest.importorskip("websockets.sync.client", reason="it comes with vLLM")
    url = f"ws://127.0.0.1:{served('listener').port}{base}/v1/realtime"
    with pytest.raises(websockets.InvalidStatus, match="403"):
        websockets.connect(url)
    with websockets.connect(url, additional_headers={"Authorization": f"Bearer {KEY}"}) as socket:

        def send(kind: str, **more: object) -> None:
            socket.send(json.dumps({"type": kind, **more}))

        assert json.loads(socket.recv(60))["type"] == "session.created"
        send("session.update", model=NAME)
        send("input_audio_buffer.commit")
        send("input_audio_buffer.append", audio=silence_in_base64())
        send("input_audio_buffer.commit", final=True)
        events = [json.loads(socket.recv(60))]
        while events[-1]["type"] == "transcription.delta":
            events.append(json.loads(socket.recv(60)))
    assert events[-1]["type"] == "transcription.done", events
    assert events[-1]["text"] == "".join(event["delta"] for event in events[:-1])
    assert events[-1]["usage"]["completion_tokens"] > 0


@every_model
def test_every_model_runs_jobs(served: Served, model: str) -> None:
    server = served(model)
    status, answer = ask(server, "/v2/any-id/runsync", input={"route": "/v1/models"})
    assert (status, answer["status"]) == (200, "COMPLETED")
    assert answer["output"][0]["data"][0]["id"] == NAME
    assert request(server, "POST", "/v2/any-id/runsync", b"{}", key="")[0] == 401
    assert request(server, "GET", "/v2/any-id/runsync")[0] == 405


@every_model
def test_the_openapi_document_lists_what_clients_can_call(served: Served, model: str) -> None:
    _, text = request(served(model), "GET", "/v1/openapi.json")
    callable_ = {
        (route.method.lower(), public(route.path).replace(":path", ""))
        for route in rows(model)
        if is_reached(route.path)
        and route.access is not Access.HIDDEN
        and not route.absent
        and route.status != 403
        and route.method != "WEBSOCKET"
    }
    documented = {
        (method, path)
        for path, item in json.loads(text)["paths"].items()
        for method in item
        if method in ("get", "post")
    }
    hidden_from_it = {("get", "/openapi.json"), ("get", "/v1/openapi.json")}
    assert documented == callable_ - hidden_from_it | {("post", "/v2/{endpoint}/runsync")}


def test_each_route_has_one_row_for_a_model() -> None:
    for model in LISTED:
        keys = [(route.method, route.path) for route in rows(model)]
        assert len(keys) == len(set(keys)), model
    assert all(route.models for route in ROUTES)
