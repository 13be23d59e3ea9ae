"""Reads a form with files (multipart/form-data, RFC 7578) while it arrives. Only a piece of a file is in memory.

`batches.upload` calls it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from forebay_gateway.http.multipart import MAX_FALSE_BOUNDARIES, MAX_PART_HEAD_BYTES, read_boundary, read_part_head

AFTER_DELIMITER = b"\r- \t"
"""Bytes that may follow a boundary that ends a part (RFC 2046, 5.1.1). A boundary before any other byte is content."""


@dataclass(frozen=True)
class FormField:
    """A field of the form. `number` counts from 0; `filename` is None for a field without a file."""

    number: int
    name: str
    filename: str | None


class _Expected(Enum):
    """The part of the form that is expected next."""

    BEGINNING = auto()
    DELIMITER_END = auto()
    HEAD = auto()
    CONTENT = auto()
    NOTHING = auto()


class FormReader:
    """Reads a form: feed it the bytes, then close it. Both raise ValueError with a message for the client."""

    def __init__(self, content_type: str, max_parts: int) -> None:
        self._delimiter = b"\r\n--" + read_boundary(content_type)
        self._max_parts = max_parts
        self._buffer = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning
        self._expected = _Expected.BEGINNING
        self._field = FormField(-1, "", None)
        self._unlike = 0
        self._before = 0
        """Bytes of the line end before the content that are still in the buffer: a delimiter may begin with it."""

    def feed(self, data: bytes) -> Iterator[tuple[FormField, bytes]]:
        """Add bytes. Yields pieces of content, each with its field. Each field begins with an empty piece."""
        self._buffer += data
        while True:
            match self._expected:
                case _Expected.BEGINNING | _Expected.CONTENT:
                    piece, at_delimiter = self._read_content()
                    if piece and self._expected is _Expected.CONTENT:
                        yield self._field, piece
                    if not at_delimiter:
                        return
                    self._expected = _Expected.DELIMITER_END
                case _Expected.DELIMITER_END:
                    if not self._read_delimiter_end():
                        return
                case _Expected.HEAD:
                    if not self._read_head():
                        return
                    yield self._field, b""
                case _Expected.NOTHING:
                    self._buffer.clear()
                    return

    def close(self) -> None:
        """Check that the form is complete."""
        if self._expected is not _Expected.NOTHING:
            raise ValueError("it has no end, or not the boundary that its Content-Type names")

    def _read_content(self) -> tuple[bytes, bool]:
        """Cut the content up to the next delimiter, or the bytes that are certainly content.

        Returns the cut bytes, and whether a delimiter follows.
        """
        place = 0
        while (start := self._buffer.find(self._delimiter, place)) >= 0:
            end = start + len(self._delimiter)
            if end == len(self._buffer):
                return self._cut(start), False  # the next byte decides
            if self._buffer[end] in AFTER_DELIMITER:
                piece = self._cut(start)
                self._before = 0
                del self._buffer[: len(self._delimiter)]
                return piece, True
            self._unlike += 1
            if self._unlike > MAX_FALSE_BOUNDARIES:
                raise ValueError("its boundary occurs in what it contains")
            place = end
        # a delimiter may begin in the last bytes, but not before the place that was already checked
        return self._cut(max(place, len(self._buffer) - len(self._delimiter) + 1)), False

    def _read_delimiter_end(self) -> bool:
        """Read the end of a delimiter's line. Returns whether the line was complete."""
        if len(self._buffer) >= 2 and self._buffer.startswith(b"--"):
            self._expected = _Expected.NOTHING
            return True
        end = self._buffer.find(b"\r\n", 0, MAX_PART_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_PART_HEAD_BYTES:
                raise ValueError("a line of its boundary has no end")
            return False
        if self._field.number + 1 == self._max_parts:
            raise ValueError(f"it has more than {self._max_parts} parts")
        del self._buffer[:end]  # the end of the line stays: there may be no headers
        self._expected = _Expected.HEAD
        return True

    def _read_head(self) -> bool:
        """Read the headers of a part. Returns whether the headers were complete."""
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_PART_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_PART_HEAD_BYTES:
                raise ValueError(f"the headers of a part have no end, or more than {MAX_PART_HEAD_BYTES} bytes")
            return False
        name, filename = read_part_head(bytes(self._buffer[2:end]))
        self._field = FormField(self._field.number + 1, name, filename)
        del self._buffer[: end + 2]
        self._before = 2
        self._expected = _Expected.CONTENT
        return True

    def _cut(self, size: int) -> bytes:
        before = min(self._before, size)
        self._before -= before
        piece = bytes(memoryview(self._buffer)[before:size])
        del self._buffer[:size]
        return piece
