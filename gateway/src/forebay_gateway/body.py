"""What a request's body says that matters here: the model, whether it is to be streamed, and its conversation."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

_FORM_FIELD = rb'name="%s"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{0,512})\r\n'
_FORM_MODEL = re.compile(_FORM_FIELD % b"model")
_FORM_STREAM = re.compile(_FORM_FIELD % b"stream")

OPENING = 2048
"""Characters of a plain prompt that tell conversations apart."""


@dataclass(frozen=True)
class Fields:
    """Of a body.

    Attributes:
        valid: it could be read.
        model: "" where none is named.
        affinity: the same for requests of one conversation; b"" where nothing tells.
    """

    valid: bool = True
    model: str = ""
    stream: bool = False
    affinity: bytes = b""


def read_fields(content_type: str, body: bytes | bytearray) -> Fields:
    """Of a JSON object, or of the form by which audio is sent."""
    if content_type.lower().startswith("multipart/form-data"):
        model, stream = _FORM_MODEL.search(body), _FORM_STREAM.search(body)
        name = model[1].decode(errors="replace") if model else ""
        return Fields(model=name, stream=bool(stream and stream[1].lower() in (b"true", b"1")))
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return Fields(valid=False)
    if not isinstance(content, dict):
        return Fields(valid=False)
    model = content.get("model")
    name = model if isinstance(model, str) else ""
    return Fields(True, name, content.get("stream") is True, _affinity(content))


def read_query(target: bytes) -> Fields:
    """Of a web socket, which has no body: its target names the model."""
    query = target.partition(b"?")[2].decode("latin-1")
    return Fields(model=next(iter(parse_qs(query).get("model", ())), ""))


def _affinity(content: Mapping[str, Any]) -> bytes:
    """A digest of what stays the same while a conversation grows: the client's own word for it, else its beginning up
    to the first turn of the user."""
    if isinstance(own := content.get("prompt_cache_key"), str) and own:
        return _digest(own)
    turns = content.get("messages") or content.get("input") or content.get("prompt")
    if isinstance(turns, str):
        return _digest([content.get("instructions"), turns[:OPENING]])
    if not isinstance(turns, list) or not turns:
        return b""
    opening = [content.get("system"), content.get("instructions")]
    for turn in turns:
        opening.append(turn)
        if not isinstance(turn, dict) or turn.get("role") == "user":
            break
    return _digest(opening)


def _digest(content: object) -> bytes:
    return hashlib.sha256(json.dumps(content).encode()).digest()
