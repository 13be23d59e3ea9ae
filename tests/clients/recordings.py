"""The recorded requests, as tests send them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"

SEES = frozenset({"claude_image", "codex_image"})
"""Recordings with an image, for models that see."""


@dataclass(frozen=True)
class Recording:
    """One request of a client; `name` is its scenario's, with a number where there are several."""

    name: str
    method: str
    target: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


def read_recordings() -> list[Recording]:
    """All of them, by name."""
    found = []
    for file in sorted(RECORDED.glob("*.json")):
        requests = json.loads(file.read_text("utf-8"))["requests"]
        for number, each in enumerate(requests, 1):
            name = file.stem if len(requests) == 1 else f"{file.stem}_{number}"
            found.append(Recording(name, each["method"], each["path"], each["headers"], each["body"]))
    return found
