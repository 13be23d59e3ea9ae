"""One row of the table of routes (routes.py), and the comparison of an answer with its shape."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.vllm.server import NAME


class Access(StrEnum):
    """The effect of forebay-server's middleware on a request."""

    OPEN = "open"
    """Answered without a key, at the root."""
    KEY = "key"
    """Answered with a key, under both base URLs."""
    HIDDEN = "hidden"
    """Refused: 404 with a key, 401 without. The app has the route, and clients cannot reach it."""


@dataclass(frozen=True)
class Route:
    """One method of one path in the apps of `models`, with a request and the expected answer."""

    method: str
    """MOUNT is a whole application under the path, WEBSOCKET a GET that is upgraded."""
    path: str
    """The path pattern in the app."""
    models: frozenset[str]
    access: Access
    body: Mapping[str, Any] | None = None
    """JSON to send. With SOUND among its values the request is a form with a file."""
    shape: Any = None
    """Shape of the JSON answer, see `differences`. None: the answer is empty."""
    status: int = 200
    absent: bool = False
    """Whether forebay-server added the route, to answer that the model does not support the operation."""

    @property
    def key(self) -> tuple[str, str, bool]:
        return self.method, self.path, self.absent

    @property
    def urls(self) -> list[str]:
        """The paths to request: under both base URLs for what a key opens, and as vLLM has it."""
        path = self.path.replace("{model:path}", NAME).replace("{response_id}", "resp_none")
        if self.access is not Access.KEY:
            return [path]
        if path.endswith("openapi.json"):
            return [path]
        return [path, f"/v2/any-id/openai{path}", *([f"/v1{path}"] if path in AT_V1 else [])]


AT_V1 = frozenset({"/classify", "/detokenize", "/pooling", "/tokenize", "/tokenizer_info"})
"""Paths at the root of vLLM's app. Clients call them under /v1 too."""

SOUND = b"a second of silence"
"""Placeholder for the file of a form."""


def differences(shape: Any, content: Any, where: str = "answer") -> Iterator[str]:
    """Compare `content` with `shape`, one message for each difference.

    A dict lists required fields, a list all items, a class the type of a value; anything else is the value itself.
    """
    if isinstance(shape, dict):
        if not isinstance(content, dict):
            yield f"{where} is {content!r}, no object"
            return
        for name, part in shape.items():
            if name not in content:
                yield f"{where} has no {name}"
            else:
                yield from differences(part, content[name], f"{where}.{name}")
    elif isinstance(shape, list):
        if not isinstance(content, list) or len(content) != len(shape):
            yield f"{where} is {content!r} in place of {len(shape)} items"
            return
        for number, (part, item) in enumerate(zip(shape, content, strict=True)):
            yield from differences(part, item, f"{where}[{number}]")
    elif isinstance(shape, type):
        if not isinstance(content, shape):
            yield f"{where} is {content!r}, no {shape.__name__}"
    elif content != shape:
        yield f"{where} is {content!r} in place of {shape!r}"
