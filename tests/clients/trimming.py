"""Recorded requests without what belongs to one machine or one run, and with long texts cut."""

import re
from collections.abc import Mapping
from typing import Any

TEXT, DESCRIPTION = 300, 60
"""The most letters of a text, and of a description in a tool's schema."""

WHOLE = frozenset({"arguments", "data", "image_url", "input"})
"""Fields outside of tools that are no use in part."""

HEADERS = (
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "authorization",
    "content-type",
    "originator",
    "user-agent",
    "x-app",
    "x-codex-beta-features",
)
"""The headers that are kept: those by which a server could answer otherwise."""

CUT = "… (cut)"

UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
DEVICE = re.compile(r"\b[0-9a-f]{64}\b")
MILLISECONDS = re.compile(r"\b1[0-9]{12}\b")
MACHINE = re.compile(r" \([^()]*(?:\([^()]*\))?[^()]*\)")
"""The part of a client's user-agent about the machine."""


def trim_request(request: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """A request as it is kept. `places` are folders and addresses of this machine -> what takes their place."""
    headers = {name: request["headers"][name] for name in HEADERS if name in request["headers"]}
    headers["user-agent"] = MACHINE.sub("", headers["user-agent"]).partition(" unknown")[0]
    body = _trim(request["body"], places, "")
    return {"method": request["method"], "path": request["path"], "headers": headers, "body": body}


def _trim(value: Any, places: Mapping[str, str], name: str, in_tools: bool = False) -> Any:
    """A part of a body; `name` is that of the field that holds it."""
    if isinstance(value, dict):
        return {each: _trim(part, places, each, in_tools or each == "tools") for each, part in value.items()}
    if isinstance(value, list):
        return [_trim(part, places, name, in_tools) for part in value]
    if not isinstance(value, str):
        return value
    most = DESCRIPTION if in_tools else TEXT
    may_cut = name == "description" if in_tools else name not in WHOLE
    return neutral(value[:most] + CUT if may_cut and len(value) > most else value, places)


def neutral(text: str, places: Mapping[str, str]) -> str:
    """A text without this machine's places and without identifiers, which all become the same."""
    for place, other in places.items():
        text = text.replace(place, other)
    text = UUID.sub("00000000-0000-4000-8000-000000000000", text)
    return MILLISECONDS.sub("1780000000000", DEVICE.sub("0" * 64, text))
