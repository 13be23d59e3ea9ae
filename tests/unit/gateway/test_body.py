"""What a body says."""

import json
from typing import Any

import pytest

from forebay_gateway.body import Fields, read_fields, read_query

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
    b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--b--\r\n'
)


def of(**content: Any) -> Fields:
    return read_fields("application/json", json.dumps(content).encode())


def test_model_and_stream_are_read() -> None:
    found = of(model="m", stream=True, messages=[])
    assert (found.valid, found.model, found.stream) == (True, "m", True)


def test_a_form_is_read_too() -> None:
    found = read_fields('multipart/form-data; boundary="b"', FORM)
    assert (found.valid, found.model, found.stream) == (True, "whisper", True)


def test_a_web_socket_names_its_model_in_its_target() -> None:
    assert read_query(b"/v1/realtime?a=b&model=org%2Fm").model == "org/m"
    assert read_query(b"/v1/realtime").model == ""


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_not_valid(body: bytes) -> None:
    assert not read_fields("application/json", body).valid


@pytest.mark.parametrize("model", [None, 3, ["m"], {}])
def test_a_model_that_is_no_text_is_none(model: Any) -> None:
    assert of(model=model).model == ""


SYSTEM = {"role": "system", "content": "You are kind."}


def turn(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a chat that grows": (
        {"messages": [SYSTEM, turn("one")]},
        {"messages": [SYSTEM, turn("one"), turn("yes", "assistant"), turn("two")]},
    ),
    "a response that grows": (
        {"input": [turn("one")], "instructions": "Be kind."},
        {"input": [turn("one"), turn("two")], "instructions": "Be kind.", "temperature": 1},
    ),
    "a prompt that grows": ({"prompt": "x" * 3000}, {"prompt": "x" * 3000 + "more"}),
    "the client's own word": (
        {"messages": [turn("one")], "prompt_cache_key": "k"},
        {"messages": [turn("two")], "prompt_cache_key": "k"},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_one_conversation_has_one_affinity(case: str) -> None:
    one, other = SAME[case]
    assert of(**one).affinity
    assert of(**one).affinity == of(**other).affinity


def test_two_conversations_under_one_system_prompt_have_two() -> None:
    assert of(messages=[SYSTEM, turn("one")]).affinity != of(messages=[SYSTEM, turn("two")]).affinity
    assert of(input="one").affinity != of(input="two").affinity
    assert of(messages=[turn("one")], system="a").affinity != of(messages=[turn("one")], system="b").affinity


@pytest.mark.parametrize("content", [{}, {"messages": []}, {"messages": 3}, {"query": "q", "documents": ["d"]}])
def test_what_tells_no_conversation_has_none(content: dict[str, Any]) -> None:
    assert of(**content).affinity == b""
