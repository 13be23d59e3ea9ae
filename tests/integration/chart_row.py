"""A row of the table of the chart's keys: a key, a value, and the expected parts of the rendered objects.

An expectation is a part of an object. Each expected item of a list must be in the object's list. `ABSENT` means that
the field is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ABSENT = object()

OPERATOR, GATEWAY, VALKEY = "Deployment/forebay", "Deployment/forebay-gateway", "StatefulSet/forebay-valkey"
COMPONENTS = {"": OPERATOR, "gateway.": GATEWAY, "valkey.": VALKEY}
DIGEST = "sha256:" + 64 * "0"


@dataclass(frozen=True)
class Row:
    """A key with a value.

    Attributes:
        objects: KIND/NAME -> the expected part of the object; None for an object that is not rendered.
        base: other values that the key needs to have an effect.
        alone: whether its objects differ when all keys are set.
    """

    key: str
    value: Any
    objects: Mapping[str, Any]
    base: Mapping[str, Any]
    alone: bool

    @property
    def values(self) -> dict[str, Any]:
        """The values that set the key."""
        return merge(nest(self.key, self.value), dict(self.base))


def row(key: str, value: Any, objects: Mapping[str, Any], *, alone: bool = False, **base: Any) -> Row:
    return Row(key, value, objects, base, alone)


def nest(key: str, value: Any) -> dict[str, Any]:
    """The values with one key, which may have dots."""
    first, _, rest = key.partition(".")
    return {first: nest(rest, value) if rest else value}


def merge(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Merge both. Values of `one` override."""
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(one.get(key), dict):
            merge(one[key], value)
        else:
            one.setdefault(key, value)
    return one


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[fields])


def arguments(*values: str) -> dict[str, Any]:
    return container(args=list(values))


def variable(name: str, value: str) -> dict[str, Any]:
    return container(env=[{"name": name, "value": value}])
