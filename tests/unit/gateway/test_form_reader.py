"""A form that is parsed as a stream equals one that is parsed as a whole."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.http.form_reader import FormReader
from forebay_gateway.http.multipart import MAX_PART_HEAD_BYTES, read_boundary, read_part_head, read_parts
from tests.fuzz import fuzzed

FORM = "multipart/form-data; boundary=x"
Fields = list[tuple[str, str | None, bytes]]


def read_in_pieces(*pieces: bytes, most: int = 16) -> Fields:
    reader, found = FormReader(FORM, most), dict[int, tuple[str, str | None, bytes]]()
    for piece in pieces:
        for field, content in reader.feed(piece):
            before = found.get(field.number, ("", None, b""))[2]
            found[field.number] = (field.name, field.filename, before + content)
    reader.close()
    return list(found.values())


def read_whole(body: bytes) -> Fields:
    return [(part.name, part.filename, bytes(part.content)) for part in read_parts(FORM, body, 16)]


CONTENT = st.lists(st.sampled_from([b"a", b"\r\n", b"\r", b"\n", b"--", b"--x", b"\r\n--xy", b"\xff"]), max_size=8)


@fuzzed
@given(
    contents=st.lists(CONTENT.map(b"".join), min_size=1, max_size=4),
    preamble=st.sampled_from([b"", b"\r\n", b"words\r\n"]),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_a_form_is_parsed_alike_in_any_pieces(contents: list[bytes], preamble: bytes, cuts: list[int]) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="%d"; filename="f"\r\n\r\n'
    body = preamble + b"".join(head % number + content + b"\r\n" for number, content in enumerate(contents)) + b"--x--"
    try:
        whole = read_whole(body)
    except ValueError:
        return  # a content holds what looks like the end
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    assert read_in_pieces(*(body[begin:end] for begin, end in pairwise(places))) == whole
    assert read_in_pieces(*(body[place : place + 1] for place in range(len(body)))) == whole


def test_a_part_without_headers_is_read() -> None:
    assert read_in_pieces(b"--x\r\n\r\nword\r\n--x--") == [("", None, b"word")]


@pytest.mark.parametrize(
    ("written", "filename"),
    [
        ('filename="résumé 日本.jsonl"', "résumé 日本.jsonl"),  # as curl, browsers and httpx write it
        ("filename*=UTF-8''r%C3%A9sum%C3%A9.jsonl", "résumé.jsonl"),
        ("filename*=utf-7''%2B2AA-.jsonl", "?.jsonl"),  # a lone surrogate is no text
        ("filename=in.jsonl", "in.jsonl"),
        ('filename="a;b\\"c.jsonl"', 'a;b"c.jsonl'),
        ('filename="in.jsonl"\r\nContent-Transfer-Encoding:  Binary ', "in.jsonl"),
        ('filename=""', ""),
        ("x=y", None),
    ],
)
def test_a_filename_is_read_as_each_client_writes_it(written: str, filename: str | None) -> None:
    head = f'Content-Disposition: form-data; name="file"; {written}'
    assert read_part_head(head.encode()) == ("file", filename)


@pytest.mark.parametrize("name", ["name", "filename"])
def test_a_parameter_given_both_whole_and_in_sections_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="whole and in sections"):
        read_part_head(f"Content-Disposition: form-data; {name}*=a; {name}*0=b".encode())
    with pytest.raises(ValueError, match="whole and in sections"):
        read_boundary("multipart/form-data; boundary*=a; boundary*0=b")


def test_a_long_field_keeps_no_more_than_the_received_bytes() -> None:
    reader = FormReader(FORM, 16)
    list(reader.feed(b"--x\r\n\r\n"))
    for _ in range(100):
        (piece,) = [content for _, content in reader.feed(b"y" * 10_000)]
        assert len(piece) >= 9_990
    assert len(reader._buffer) < 20


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([b""], "no end"),
        ([b"nothing of it"], "no end"),
        ([b"--x\r\n\r\nword"], "no end"),
        ([b"--x\r\n\r\n\r\n--x\r\n\r\n\r\n--x--"], "more than 1 parts"),
        ([b"--x\r\n", b"a" * 1000, b"a" * MAX_PART_HEAD_BYTES], "headers of a part"),
        ([b"--x " + b" " * MAX_PART_HEAD_BYTES], "line of its boundary"),
        ([b"--x\r\n\r\n" + b"\r\n--xy" * 1001], "occurs in what it contains"),
        ([b"--x\r\nContent-Transfer-Encoding: base64\r\n\r\n\r\n--x--"], "content-transfer-encoding"),
    ],
)
def test_an_invalid_form_is_rejected(pieces: list[bytes], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_in_pieces(*pieces, most=1)
