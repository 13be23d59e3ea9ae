"""Reads the fields of a request's body that the handler needs: the model, whether it streams, and its conversation.

The body is scanned without building objects: 32 MiB of JSON take about 20 ms and no memory, whatever they contain.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec

from forebay_gateway.http.multipart import is_form, read_parts
from forebay_gateway.http.raw_json import NO_VALUE, read_text, without_mark

MAX_FORM_PARTS = 64
"""The most parts of a form that are read. Later fields are ignored."""

MAX_FIELD_LENGTH = 512
"""The most bytes of a form's field. A longer field is not read."""

MAX_JSON_VALUES = 2_000_000
"""The most values of a body that is scanned; each takes 7 ns. Commas and brackets count as values, also in strings."""

COUNT_SLICE = 1 << 20
"""Bytes of the slices in which commas and brackets are counted."""

OPENING_LENGTH = 2048
"""Characters of a plain prompt that identify a conversation."""

MAX_MESSAGES_BYTES = 4 << 20
"""The most bytes of a conversation's messages. Longer ones are not read."""

MAX_MESSAGES_COMMAS = 100_000
"""The most commas in the messages that are read. The messages become a list, whose items take 64 bytes each."""


class _Body(msgspec.Struct):
    model: msgspec.Raw = NO_VALUE
    stream: msgspec.Raw = NO_VALUE
    prompt_cache_key: msgspec.Raw = NO_VALUE
    system: msgspec.Raw = NO_VALUE
    instructions: msgspec.Raw = NO_VALUE
    messages: msgspec.Raw = NO_VALUE
    input: msgspec.Raw = NO_VALUE
    prompt: msgspec.Raw = NO_VALUE


class _Message(msgspec.Struct):
    role: msgspec.Raw = NO_VALUE


_BODY = msgspec.json.Decoder(_Body)
_MESSAGES = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE = msgspec.json.Decoder(_Message)


@dataclass(frozen=True)
class BodyFields:
    """The fields of a body.

    Attributes:
        valid: whether it could be parsed.
        dense: whether it has too many values to be parsed.
        model: the model; "" if the body names none.
        affinity: a digest that is the same for requests of one conversation; b"" if it is unknown.
    """

    valid: bool = True
    dense: bool = False
    model: str = ""
    stream: bool = False
    affinity: bytes = b""


def read_fields(content_type: str, body: bytes | bytearray) -> BodyFields:
    """Read the fields of a JSON object, or of a form with audio."""
    if is_form(content_type):
        return _read_form(content_type, body)
    if _is_dense(body):
        return BodyFields(dense=True)
    try:
        content = _BODY.decode(without_mark(body))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return BodyFields(valid=False)
    stream = bytes(content.stream) == b"true"
    return BodyFields(model=read_text(content.model), stream=stream, affinity=_affinity(content))


def _is_dense(body: bytes | bytearray) -> bool:
    count = 0
    for place in range(0, len(body), COUNT_SLICE):
        count += sum(body.count(token, place, place + COUNT_SLICE) for token in (b",", b"[", b"{"))
        if count > MAX_JSON_VALUES:
            return True
    return False


def read_query(target: bytes) -> BodyFields:
    """Read the fields of a web socket's target, which names the model, because a web socket has no body."""
    query = target.partition(b"?")[2].decode("latin-1")
    try:
        return BodyFields(model=next(iter(parse_qs(query, max_num_fields=MAX_FORM_PARTS).get("model", ())), ""))
    except ValueError:
        return BodyFields(valid=False)


def _read_form(content_type: str, body: bytes | bytearray) -> BodyFields:
    fields: dict[str, str] = {}
    try:
        for part in read_parts(content_type, body, MAX_FORM_PARTS):
            if part.name in ("model", "stream") and part.filename is None and len(part.content) <= MAX_FIELD_LENGTH:
                fields.setdefault(part.name, bytes(part.content).decode(errors="replace"))
    except ValueError:
        return BodyFields(valid=False)
    return BodyFields(model=fields.get("model", ""), stream=fields.get("stream", "").lower() in ("true", "1"))


def _affinity(content: _Body) -> bytes:
    """A digest of the part that stays the same while a conversation grows: the client's `prompt_cache_key`, or else the
    beginning up to the user's first message."""
    if own := read_text(content.prompt_cache_key):
        return _digest([own.encode()])
    messages = next((raw for raw in (content.messages, content.input, content.prompt) if _has_content(raw)), NO_VALUE)
    kind, size = _start(messages)[:1], len(memoryview(messages))
    if size > MAX_MESSAGES_BYTES:
        return b""
    if kind == b'"':
        return _digest([bytes(content.instructions), read_text(messages)[:OPENING_LENGTH].encode()])
    if kind != b"[" or bytes(messages).count(b",") > MAX_MESSAGES_COMMAS:
        return b""
    return _digest([bytes(content.system), bytes(content.instructions), *_read_opening(_MESSAGES.decode(messages))])


def _start(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:2])


def _has_content(raw: msgspec.Raw) -> bool:
    """Whether the value is neither null nor an empty list or string."""
    return _start(raw) not in (b"", b"nu", b"[]", b'""')


def _read_opening(messages: Sequence[msgspec.Raw]) -> list[bytes]:
    opening = []
    for message in messages:
        opening.append(bytes(message))
        if _start(message)[:1] != b"{" or read_text(_MESSAGE.decode(message).role) == "user":
            break
    return opening


def _digest(parts: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
