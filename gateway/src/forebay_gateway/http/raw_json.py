"""JSON of which only some fields are wanted: msgspec checks all of it and builds nothing; the fields are read later."""

import msgspec

NO_VALUE = msgspec.Raw(b"")
"""The default of a field that is not there."""

BYTE_ORDER_MARK = "\ufeff".encode()
"""What Windows' programs write at the beginning of a file in UTF-8."""

_TEXT = msgspec.json.Decoder(str)


def without_mark(body: bytes | bytearray) -> bytes | bytearray | memoryview:
    """JSON from behind its byte order mark, which a pod passes over too."""
    return memoryview(body)[len(BYTE_ORDER_MARK) :] if body.startswith(BYTE_ORDER_MARK) else body


def read_text(raw: msgspec.Raw) -> str:
    """A string; "" for anything else."""
    try:
        return _TEXT.decode(raw)
    except (msgspec.DecodeError, UnicodeError):
        return ""
