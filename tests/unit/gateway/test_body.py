"""The fields that the gateway reads from a body."""

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.http.body import BodyFields, read_fields, read_query
from forebay_gateway.http.multipart import read_parts
from tests.fuzz import fuzzed

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
    b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--b--\r\n'
)


def of(**content: Any) -> BodyFields:
    return read_fields("application/json", json.dumps(content).encode())


def test_model_and_stream_are_read() -> None:
    found = of(model="m", stream=True, messages=[])
    assert (found.valid, found.model, found.stream) == (True, "m", True)


def test_a_byte_order_mark_is_skipped_as_in_a_pod() -> None:
    body = bytearray(b'\xef\xbb\xbf{"model": "m", "stream": true}')
    found = read_fields("application/json", body)
    assert (found.valid, found.model, found.stream) == (True, "m", True)
    body += b" "  # nothing holds it


def test_model_and_stream_are_read_from_a_form() -> None:
    found = read_fields('multipart/form-data; boundary="b"', FORM)
    assert (found.valid, found.model, found.stream) == (True, "whisper", True)


def test_a_web_socket_names_its_model_in_its_target() -> None:
    assert read_query(b"/v1/realtime?a=b&model=org%2Fm").model == "org/m"
    assert read_query(b"/v1/realtime").model == ""


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_an_object_is_invalid(body: bytes) -> None:
    assert not read_fields("application/json", body).valid


@pytest.mark.parametrize("model", [None, 3, ["m"], {}])
def test_a_model_that_is_not_text_is_ignored(model: Any) -> None:
    assert of(model=model).model == ""


SYSTEM = {"role": "system", "content": "You are kind."}


def message(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a chat that grows": (
        {"messages": [SYSTEM, message("one")]},
        {"messages": [SYSTEM, message("one"), message("yes", "assistant"), message("two")]},
    ),
    "a response that grows": (
        {"input": [message("one")], "instructions": "Be kind."},
        {"input": [message("one"), message("two")], "instructions": "Be kind.", "temperature": 1},
    ),
    "a prompt that grows": ({"prompt": "x" * 3000}, {"prompt": "x" * 3000 + "more"}),
    "the client's own word": (
        {"messages": [message("one")], "prompt_cache_key": "k"},
        {"messages": [message("two")], "prompt_cache_key": "k"},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_one_conversation_has_one_affinity(case: str) -> None:
    one, other = SAME[case]
    assert of(**one).affinity
    assert of(**one).affinity == of(**other).affinity


def test_two_conversations_under_one_system_prompt_have_two() -> None:
    assert of(messages=[SYSTEM, message("one")]).affinity != of(messages=[SYSTEM, message("two")]).affinity
    assert of(input="one").affinity != of(input="two").affinity
    assert of(messages=[message("one")], system="a").affinity != of(messages=[message("one")], system="b").affinity


@pytest.mark.parametrize("content", [{}, {"messages": []}, {"messages": 3}, {"query": "q", "documents": ["d"]}])
def test_a_body_without_a_conversation_has_no_affinity(content: dict[str, Any]) -> None:
    assert of(**content).affinity == b""


SMALL_LISTS = b'{"x":[' + b"[]," * (1 << 19) + b'1],"model":"m"}'


@pytest.mark.parametrize(
    "body",
    [
        SMALL_LISTS,
        b'{"model":"m","messages":[' + b"[]," * (1 << 19) + b"1]}",
        b'{"input":[' + b"1," * (1 << 20) + b'1],"model":"m"}',
        b'{"prompt":"' + b"\\n" * (1 << 21) + b'","model":"m"}',
        b"{" + b'"model":1,' * (1 << 18) + b'"model":"m"}',
    ],
    ids=["lists", "invalid messages", "tokens", "escapes", "models"],
)
def test_reading_a_body_builds_no_objects(body: bytes) -> None:
    tracemalloc.start()
    found = read_fields("application/json", body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.valid, found.model) == (True, "m")
    assert peak < 4 * len(body)


@pytest.mark.parametrize("piece", [b"[],", b"1,", b"[[],[]],", b'{"a":1},', b"{},"])
def test_a_body_of_very_many_values_is_not_read(piece: bytes) -> None:
    body = b'{"model":"m","input":[' + piece * ((30 << 20) // len(piece)) + b"1]}"
    began = time.thread_time()
    assert read_fields("application/json", body).dense
    assert time.thread_time() - began < 0.1


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def field(name: str, value: bytes, more: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value


def test_the_parts_of_a_form_match_the_clients() -> None:
    file = field("file", b"\r\n--bc\r\nRIFF\r\n\r\n", '; filename="a \\"b\\".wav"\r\nContent-Type: audio/wav')
    body = b"a preamble\r\n" + form(file, field("model", b"m"), b"\r\nno headers", field("", b"")) + b"an epilogue"
    parts = [(each.name, each.filename, bytes(each.content)) for each in read_parts(TYPE, body, 4)]
    assert parts == [
        ("file", 'a "b".wav', b"\r\n--bc\r\nRIFF\r\n\r\n"),
        ("model", None, b"m"),
        ("", None, b"no headers"),
        ("", None, b""),
    ]


TYPE = "multipart/form-data; boundary=b"

BROKEN = {
    "nothing": (TYPE, b""),
    "another boundary": (TYPE, b"--c\r\n\r\nx\r\n--c--\r\n"),
    "no end": (TYPE, form(field("model", b"m"), end=b"")),
    "no end of the headers": (TYPE, form(b"Content-Disposition: form-data")),
    "headers without end": (TYPE, form(b"X: " + b"x" * 100_000 + b"\r\n\r\n1")),
    "too many parts": (TYPE, form(*[field("x", b"")] * 5)),
    "no boundary": ("multipart/form-data", form(field("model", b"m"))),
    "a boundary that is too long": ("multipart/form-data; boundary=" + "b" * 71, b""),
    "an encoding": (TYPE, form(b"Content-Transfer-Encoding: base64\r\n\r\nbQ==")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_invalid_form_is_reported(case: str) -> None:
    content_type, body = BROKEN[case]
    with pytest.raises(ValueError, match=r"it|its|a part"):
        list(read_parts(content_type, body, 4))


@pytest.mark.parametrize(
    "piece",
    [
        b'name="model"\r\n',
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n',
        b"--b\r\n\r\n\r\n",
        b"\r\n--",
        b"\r\n--bx",
        b"--b\r\n",
        b"\r\n--b-",
        b"\r",
    ],
)
def test_a_form_is_read_once(piece: bytes) -> None:
    """Its time grows as its size does, whatever it is made of."""

    def seconds(size: int) -> float:
        body = form(field("file", piece * (size // len(piece))))
        began = time.process_time()
        for _ in range(3):
            read_fields(TYPE, body)
        return time.process_time() - began

    small, large = seconds(1 << 20), seconds(1 << 24)
    assert large < max(64 * small, 0.3)


@fuzzed
@given(st.lists(st.sampled_from([b"--b", b"\r\n", b"--", b": ", b'name="model"', b"m", b"\0", b"--b--"]), max_size=40))
def test_no_bytes_break_the_form_parser(pieces: list[bytes]) -> None:
    read_fields(TYPE, b"".join(pieces))


def test_a_body_that_is_not_utf_8_has_no_model() -> None:
    assert read_fields("application/json", b'{"model": "\xff"}') in (BodyFields(), BodyFields(valid=False))


def test_a_content_type_that_is_slow_to_parse_is_ignored() -> None:
    assert read_fields('multipart/form-data; x="' + ";" * 30_000, b"--b--") == BodyFields(valid=False)
