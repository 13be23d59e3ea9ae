"""JSON of which only some fields are wanted: msgspec checks all of it and builds nothing; the fields are read later."""

import msgspec

NO_VALUE = msgspec.Raw(b"")
"""The default of a field that is not there."""

_TEXT = msgspec.json.Decoder(str)


def read_text(raw: msgspec.Raw) -> str:
    """A string; "" for anything else."""
    try:
        return _TEXT.decode(raw)
    except (msgspec.DecodeError, UnicodeError):
        return ""
