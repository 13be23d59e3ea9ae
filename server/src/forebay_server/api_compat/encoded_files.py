"""Replaces Base64 files in content that becomes text for the model: as text they are many useless tokens. Pure."""

import re
from typing import Any

_ENCODED = ("blob", "data", "file_data")
"""Fields with a file in Anthropic's sources, OpenAI's parts and MCP's contents."""

_DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]{1,99}/[\w.+-]{1,99})?(?:;[\w.+-]{1,99}=[^;,\s\"]{0,99}){0,9};base64,[\w+/=%-]*",
    re.ASCII | re.IGNORECASE,
)


def omit_files(content: Any) -> Any:
    """Replace each file in `content` with a note such as "(PDF omitted)".

    Raises:
        RecursionError: it is nested too deeply.
    """
    if isinstance(content, str):
        return _DATA_URL.sub(lambda match: _placeholder(match["type"]), content)
    if isinstance(content, list):
        return [omit_files(part) for part in content]
    if not isinstance(content, dict):
        return content
    kind = content.get("media_type") or content.get("mimeType")
    encoded = content.get("type") == "base64" or "mimeType" in content
    return {
        name: _placeholder(kind)
        if isinstance(value, str) and name in _ENCODED and (encoded or name == "file_data")
        else omit_files(value)
        for name, value in content.items()
    }


def _placeholder(media_type: Any) -> str:
    """The placeholder for a file, such as "(PDF omitted)" or "(image omitted)"."""
    family, _, kind = media_type.partition("/") if isinstance(media_type, str) else ("", "", "")
    if re.fullmatch("[a-z0-9]{1,8}", kind):
        return f"({kind.upper()} omitted)"
    return f"({family if family in ('audio', 'image', 'text', 'video') else 'file'} omitted)"
