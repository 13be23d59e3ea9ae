"""The headers that every answer gets."""

import socket
from types import SimpleNamespace

import pytest

from forebay_server.asgi import Message, Scope
from forebay_server.serving.response_headers import IGNORED_STATE, add_ignored, complete_headers

STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
OPEN = (b"access-control-allow-origin", b"*")


async def answered(*headers: tuple[bytes, bytes]) -> dict[str, str]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    _, completed = complete_headers({"headers": [(b"x-request-id", b"mine")]}, send)
    await completed({"type": "http.response.start", "status": 200, "headers": list(headers)})
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def test_no_proxy_buffers_a_stream() -> None:
    assert await answered(STREAM) == {
        STREAM[0].decode(): STREAM[1].decode(),
        "x-request-id": "mine",
        "x-runpod-worker-id": socket.gethostname(),
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }
    assert await answered((b"content-type", b"application/json")) == {
        "content-type": "application/json",
        "x-request-id": "mine",
        "x-runpod-worker-id": socket.gethostname(),
    }


@pytest.mark.parametrize("own", [b"cache-control", b"Cache-Control"])
async def test_headers_set_by_the_app_stay(own: bytes) -> None:
    assert (await answered(STREAM, (own, b"no-store")))[own.decode()] == "no-store"
    assert len([name for name in await answered(STREAM, (own, b"no-store")) if name.lower() == "cache-control"]) == 1


async def test_a_web_page_that_may_read_the_response_may_read_its_ids() -> None:
    exposed = (await answered(OPEN))["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "x-runpod-worker-id"} <= set(exposed)
    assert "access-control-expose-headers" not in await answered()


async def test_ignored_fields_are_named_in_every_response() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"headers": []}
    inner, completed = complete_headers(scope, send)
    inner["state"][IGNORED_STATE] = ("store", "temprature;suggestion=temperature", "odd\r\nname: ü")
    await completed({"type": "http.response.start", "status": 200, "headers": []})
    named = dict(sent[0]["headers"])[b"x-forebay-ignored"]
    assert named == b"store, temprature;suggestion=temperature, odd??name???"


def test_further_ignored_fields_are_appended() -> None:
    state = SimpleNamespace()
    add_ignored(state, ("store",))
    add_ignored(state, ())
    add_ignored(state, ("thinking.budget_tokens",))
    assert vars(state) == {IGNORED_STATE: ("store", "thinking.budget_tokens")}
