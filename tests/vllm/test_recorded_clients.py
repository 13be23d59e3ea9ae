"""Requests that Claude Code and Codex sent, to a server with canned answers: each is answered as its API has it."""

import json
import urllib.request
from typing import Any

import pytest

from tests.clients.recordings import SEES, Recording, read_recordings
from tests.vllm.server import KEY, NAME, Server
from tests.vllm.server_calls import CALL_TIMEOUT

pytestmark = pytest.mark.gate

RECORDINGS = {recording.name: recording for recording in read_recordings() if recording.name not in SEES}

OMITTED_TOOLS = {
    "claude_read_and_search_1": "web_search",
    "codex_after_openai": "web_search",
    "codex_command": "web_search",
    "codex_patch": "tool_search, web_search",
}
"""The names in the header, for recordings with tools that no server runs here."""


STRICT = "codex_additional_tools"
"""Its tools are strict: their grammar refuses canned tokens, and the server that has random weights follows it."""


def send(server: Server, recording: Recording) -> tuple[str, str | None]:
    """The answer's text and its header with the removed tools. Raises HTTPError for anything but 200."""
    headers = {**recording.headers, "authorization": f"Bearer {KEY}"}
    body = json.dumps({**recording.body, "model": NAME}).encode()
    address = f"http://127.0.0.1:{server.port}{recording.target}"
    request = urllib.request.Request(address, body, headers, method=recording.method)
    with urllib.request.urlopen(request, timeout=CALL_TIMEOUT) as answer:
        return answer.read().decode(), answer.headers["x-forebay-tools-left-out"]


def read_events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


def test_requests_that_need_a_grammar_are_answered(writer: Server) -> None:
    text, _ = send(writer, RECORDINGS[STRICT])
    kinds = [event["type"] for event in read_events(text)]
    assert (kinds[0], kinds[-1] in ("response.completed", "response.incomplete")) == ("response.created", True), text


def test_a_response_that_the_engine_aborts_ends_with_an_error(canned: Server) -> None:
    text, _ = send(canned, RECORDINGS[STRICT])
    last = read_events(text)[-1]
    assert (last["type"], last["code"]) == ("error", "internal_error"), text


@pytest.mark.parametrize("name", sorted({*RECORDINGS} - {STRICT}))
def test_recorded_conversations_of_clients_are_answered(canned: Server, name: str) -> None:
    recording = RECORDINGS[name]
    text, omitted = send(canned, recording)
    assert omitted == OMITTED_TOOLS.get(name)
    if recording.path.endswith("/count_tokens"):
        assert json.loads(text)["input_tokens"] > 0
        return
    events = read_events(text)
    kinds = [event["type"] for event in events]
    assert "error" not in kinds, text
    if recording.path.endswith("/messages"):
        assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"]), text
        started = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
        assert started[0] == "thinking", text
        assert events[-2]["delta"]["stop_reason"] in ("tool_use", "end_turn"), text
    else:
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed"), text
        items = [item["type"] for item in events[-1]["response"]["output"]]
        assert items[0] == "reasoning", text
