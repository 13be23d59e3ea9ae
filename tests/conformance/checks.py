"""Checks of a client library, for the programs that run one in the programs' own environment.

`python -m tests.conformance.NAME_library ADDRESS KEY MODEL GROUP` prints a JSON object: what was tried -> what was
wrong, or "".
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Check = Callable[["Target"], None]

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
"""The arguments of a tool."""


@dataclass(frozen=True)
class Target:
    """The server under test, by its address before /v1."""

    address: str
    key: str
    model: str

    @property
    def base(self) -> str:
        return f"{self.address}/v1"


def run_checks(groups: Mapping[str, Mapping[str, Check]]) -> None:
    """Run the group that the arguments name, and print its outcome."""
    *target, group = sys.argv[1:]
    found = {name: _try(check, Target(*target)) for name, check in groups[group].items()}
    print(json.dumps(found))


def _try(check: Check, target: Target) -> str:
    try:
        check(target)
    except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
        return f"{type(error).__name__}: {error}"[:500]
    return ""
