"""What a row of the table of routes is made of, and how an answer is compared with it: see routes.py."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.vllm.server import NAME


class Access(StrEnum):
    """What the gate does."""

    OPEN = "open"
    """Answered without a key, at the root."""
    KEY = "key"
    """Answered to who has a key, under both base URLs."""
    HIDDEN = "hidden"
    """404 with a key, 401 without: the app has it, clients do not."""


@dataclass(frozen=True)
class Route:
    """One method of one path, of the apps of `models`, and a request with its right answer."""

    method: str
    """MOUNT is a whole application under the path, WEBSOCKET a GET that is upgraded."""
    path: str
    """As the app has it: a pattern of starlette's."""
    models: frozenset[str]
    access: Access
    body: Mapping[str, Any] | None = None
    """JSON to send; SOUND among its values makes it a form."""
    shape: Any = None
    """What the JSON of the answer is like, see `differences`; None for an empty answer."""
    status: int = 200
    absent: bool = False
    """Whether it only says that the model cannot do it."""

    @property
    def key(self) -> tuple[str, str, bool]:
        return self.method, self.path, self.absent

    @property
    def urls(self) -> list[str]:
        """The paths of the request."""
        path = self.path.replace("{model:path}", NAME).replace("{response_id}", "resp_none")
        if self.access is not Access.KEY:
            return [path]
        if path in AT_V1:
            path = f"/v1{path}"
        return [path, f"/v2/any-id/openai{path}"] if path.startswith("/v1/") else [path]


AT_V1 = frozenset({"/classify", "/detokenize", "/pooling", "/tokenize"})
"""Paths that vLLM has at the root and clients under /v1."""

SOUND = b"a second of silence"
"""Stands for a file in a form."""


def differences(shape: Any, content: Any, where: str = "answer") -> Iterator[str]:
    """Where `content` is not like `shape`: a dict names the fields that must be there, a list its items, a class what
    the value is an instance of, anything else the value."""
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
