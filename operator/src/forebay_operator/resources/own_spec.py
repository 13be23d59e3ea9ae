"""Identifies the part of an endpoint's own spec that shapes its pods. Pure; template.py calls it.

A change of this part takes effect immediately. Any other difference of the pod template comes from the operator, and
reaches the endpoints one after the other.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from forebay_operator.resources.meta import digest
from forebay_operator.spec import Endpoint, Manifest, Spec
from forebay_operator.spec.parsing import camel

NOT_IN_PODS = frozenset(
    {
        "replicas", "scaling", "suspend", "service", "route", "networkPolicy", "upgrade", "rollout.strategy",
        "cache.storageClassName", "cache.accessModes", "cache.deletionPolicy",
    }
)  # fmt: skip
"""Fields that change no pod. digest_own_spec adds the exception: `sleeps` of `scaling`."""


def digest_own_spec(endpoint: Endpoint) -> str:
    """Return a digest of the fields that shape the pods, as the user gave them.

    Fields with their default value are omitted. So a field that a later release adds does not change the digest.
    """
    own = _select(Spec, endpoint.given, "")
    if endpoint.scaling and endpoint.scaling.sleeps:
        own["sleeps"] = True
    return digest(own)


def _select(kind: Any, given: Manifest, path: str) -> dict[str, Any]:
    selected: dict[str, Any] = {}
    for one, hint, name in _fields_of(kind):
        value = given.get(name)
        if is_dataclass(hint) and isinstance(value, Mapping):
            value = _select(hint, value, f"{path}{name}.")
        if value not in (None, "", [], {}, _default_of(one)) and f"{path}{name}" not in NOT_IN_PODS:
            selected[name] = value
    return selected


@cache
def _fields_of(kind: type) -> list[tuple[Field[Any], Any, str]]:
    hints = get_type_hints(kind)
    return [(one, hints[one.name], camel(one.name)) for one in fields(kind)]


def _default_of(one: Field[Any]) -> Any:
    """The default of a field, in the form that it has in JSON."""
    default = None if one.default is MISSING else one.default
    return list(default) if isinstance(default, tuple) else default
