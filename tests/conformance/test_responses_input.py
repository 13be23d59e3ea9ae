"""Items of /v1/responses that a client sends back unchanged, with every field of the response."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.conformance.servers import MODEL, Server
from tests.fetch import fetch

pytestmark = pytest.mark.conformance

QUESTION = {"role": "user", "content": "Say something."}


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(parts)}


def output(kind: str, *parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": kind, "id": "out_1", "call_id": "call_1", "status": "completed", "output": list(parts), **fields}


TEXT = {"type": "output_text", "text": "5", "annotations": [], "logprobs": []}
REFUSAL = {"type": "refusal", "refusal": "No."}
RESULT = {"type": "input_text", "text": "5"}
FILE = {"type": "input_file", "detail": None, "file_data": None, "file_id": None, "file_url": None, "filename": None}
ALL = {"caller": None, "created_by": None, "name": None, "namespace": None}


@pytest.mark.parametrize(
    ("item", "status"),
    [
        pytest.param(message(TEXT), 200, id="message"),
        pytest.param(message(TEXT, TEXT), 200, id="message of two parts"),
        pytest.param(message(), 200, id="empty message"),
        pytest.param(message(REFUSAL), 200, id="refusal"),
        pytest.param(output("function_call_output", RESULT), 200, id="function's output"),
        pytest.param(output("function_call_output", RESULT, **ALL), 200, id="function's output, every field"),
        pytest.param(output("custom_tool_call_output", RESULT), 200, id="tool's output"),
        pytest.param(output("function_call_output", FILE, **ALL), 400, id="a file"),
        pytest.param(output("function_call_output", FILE, **{**ALL, "call_id": None}), 400, id="a file for no call"),
        pytest.param({"type": "item_reference", "id": "msg_1"}, 400, id="a reference"),
    ],
)
def test_items_sent_back_by_clients_are_accepted(canned: Server, item: dict[str, Any], status: int) -> None:
    body = {"model": MODEL, "input": [QUESTION, item, QUESTION], "max_output_tokens": 8}
    headers = {"authorization": f"Bearer {canned.key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{canned.api}/responses", json.dumps(body).encode(), headers)
    answered, text = fetch(request, 60)
    reply = json.loads(text)
    assert answered == status, reply
    if status == 400:
        assert reply["error"]["type"] == "invalid_request_error"
