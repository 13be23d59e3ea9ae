"""Helps to read single fields of large JSON: msgspec checks all of it without building objects.

The body reader, job submission and the parser of batch lines use it.
"""

import msgspec

NO_VALUE = msgspec.Raw(b"")
"""The default for a missing field."""

BYTE_ORDER_MARK = "\ufeff".encode()
"""The bytes that Windows programs write at the beginning of a UTF-8 file."""

_TEXT = msgspec.json.Decoder(str)


def without_mark(body: bytes | bytearray) -> bytes | bytearray | memoryview:
    """The body without a byte order mark, which pods ignore too."""
    return memoryview(body)[len(BYTE_ORDER_MARK) :] if body.startswith(BYTE_ORDER_MARK) else body


def read_text(raw: msgspec.Raw) -> str:
    """Parse a JSON string; "" for any other value."""
    try:
        return _TEXT.decode(raw)
    except (msgspec.DecodeError, UnicodeError):
        return ""
