"""Parses forms with files (multipart/form-data, RFC 7578) in one pass over the bytes, with a limited number of parts.

`read_parts` reads a complete form. form_reader.py reads a form that is still arriving.
"""

import email
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message

MAX_BOUNDARY_LENGTH = 70
"""The most characters of a boundary (RFC 2046, 5.1.1)."""

MAX_PART_HEAD_BYTES = 2 << 10
"""Bytes of the headers of one part, and of a Content-Type. The time to parse them grows with the square."""

MAX_FALSE_BOUNDARIES = 1000
"""The most occurrences of the boundary in the content. A valid client chooses a boundary that does not occur there."""


@dataclass(frozen=True)
class Part:
    """One field. `filename` is None for a field without a file."""

    name: str
    filename: str | None
    content: memoryview


def is_form(content_type: str) -> bool:
    """Whether a Content-Type is multipart/form-data."""
    return content_type.lower().startswith("multipart/form-data")


def read_parts(content_type: str, body: bytes | bytearray, max_parts: int) -> Iterator[Part]:
    """Yield the parts of a form in their order.

    Raises ValueError with a message for the client: the body is not a form, or has more than `max_parts` parts.
    """
    delimiters = _find_delimiters(body, read_boundary(content_type))
    view = memoryview(body)
    _, place = next(delimiters)
    for _ in range(max_parts):
        if body[place : place + 2] == b"--":
            return
        start = body.find(b"\r\n", place, place + MAX_PART_HEAD_BYTES)
        end, place = next(delimiters)
        if not 0 <= start <= end:
            raise ValueError("a line of its boundary has no end")
        yield _read_part(body, view, start + 2, end)
    if body[place : place + 2] != b"--":
        raise ValueError(f"it has more than {max_parts} parts")


def _find_delimiters(body: bytes | bytearray, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each delimiter; it begins with the line end before it. Raises ValueError at the end."""
    opening, delimiter = b"--" + boundary, b"\r\n--" + boundary
    place, unlike = 0, 0
    if body.startswith(opening):
        place = len(opening)
        yield 0, place
    while unlike <= MAX_FALSE_BOUNDARIES:
        start = body.find(delimiter, place)
        if start < 0:
            raise ValueError("it has no end, or not the boundary that its Content-Type names")
        place = start + len(delimiter)
        if body[place : place + 1] in (b"\r", b"-", b" ", b"\t", b""):
            yield start, place
        else:
            unlike += 1
    raise ValueError("its boundary occurs in what it contains")


def read_boundary(content_type: str) -> bytes:
    """The boundary that a Content-Type names. Raises ValueError."""
    if len(content_type) > MAX_PART_HEAD_BYTES:
        raise ValueError(f"its Content-Type has more than {MAX_PART_HEAD_BYTES} characters")
    header = Message()
    header["content-type"] = content_type
    with _whole_parameters():
        boundary = header.get_boundary("")
    if not boundary or len(boundary) > MAX_BOUNDARY_LENGTH or not boundary.isascii() or not boundary.isprintable():
        raise ValueError(f"its boundary is missing or longer than {MAX_BOUNDARY_LENGTH} characters")
    return boundary.encode()


def _read_part(body: bytes | bytearray, view: memoryview, start: int, end: int) -> Part:
    """Read the part from its headers at `start` to its delimiter at `end`."""
    head_end = (
        start - 2 if body[start : start + 2] == b"\r\n" else body.find(b"\r\n\r\n", start, start + MAX_PART_HEAD_BYTES)
    )
    if not start - 2 <= head_end < end:
        raise ValueError(f"the headers of a part have no end, or more than {MAX_PART_HEAD_BYTES} bytes")
    name, filename = read_part_head(bytes(body[start : max(start, head_end)]))
    return Part(name, filename, view[min(head_end + 4, end) : end])


def read_part_head(head: bytes) -> tuple[str, str | None]:
    """Name and filename by the headers of a part, which are UTF-8 (RFC 7578, 5.1.1). Raises ValueError."""
    message = email.message_from_string(head.decode(errors="replace"))
    for encoding in ("content-transfer-encoding", "content-encoding"):
        if str(message.get(encoding, "binary")).strip().lower() not in ("binary", "8bit", "7bit", "identity"):
            raise ValueError(f"a part has a {encoding}, which forms do not have")
    with _whole_parameters():
        name, filename = message.get_param("name", "", "content-disposition"), message.get_filename()
    name = name if isinstance(name, str) else name[2]
    return _without_surrogates(name), None if filename is None else _without_surrogates(filename)


@contextmanager
def _whole_parameters() -> Iterator[None]:
    """Raise ValueError for a parameter that is present both whole and in sections (RFC 2231). Python's parser raises
    TypeError."""
    try:
        yield
    except TypeError:
        raise ValueError("a parameter of a header is there whole and in sections") from None


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode. Some charsets of `filename*` have them."""
    return text.encode(errors="replace").decode()
