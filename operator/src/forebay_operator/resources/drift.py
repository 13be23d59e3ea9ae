"""Decides whether a child has drifted from its desired manifest. Pure; apiserver/children.py calls it."""

from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from forebay_operator.labels import APPLIED_ANNOTATION, FIELD_MANAGER
from forebay_operator.spec import Manifest

_IDENTITIES = ("mountPath", "name")
"""Fields that identify the items of a list. The first field that all items have is used. The same volume may be mounted
twice, so `mountPath` precedes `name`."""

_QUANTITIES = ("sizeLimit", "divisor")


def needs_apply(desired: Manifest, live: Manifest) -> bool:
    """Whether a write is due: the desired manifest has changed, or somebody changed a field that the operator owns.

    Fields that others add are ignored.
    """
    last = (live["metadata"].get("annotations") or {}).get(APPLIED_ANNOTATION)
    wanted = desired["metadata"]["annotations"][APPLIED_ANNOTATION]
    return last != wanted or not covers(live, desired) or has_foreign_ports(live, desired)


def find_creation(live: Manifest) -> int | None:
    """The index of the entry in managedFields for the object's creation; None after the operator has applied it."""
    managers = live["metadata"].get("managedFields") or ()
    ours = {entry["operation"]: place for place, entry in enumerate(managers) if entry["manager"] == FIELD_MANAGER}
    return None if "Apply" in ours else ours.get("Update")


def has_foreign_ports(live: Manifest, desired: Manifest) -> bool:
    """Whether a Service has other ports than desired. The ops port must never be reachable through it."""
    return desired["kind"] == "Service" and len(live["spec"].get("ports") or ()) != len(desired["spec"]["ports"])


def covers(live: Any, desired: Any) -> bool:
    """Whether `live` has every value of `desired`. It may have more.

    Items of a list are matched by their name if they have one, else by position. A selector must be equal, because
    an added key changes where requests go. Resources are compared as quantities, because the API server rewrites 0.5 as
    500m.
    """
    if isinstance(desired, dict):
        live = live if isinstance(live, dict) else {}
        return all(_covers_field(key, live.get(key), value) for key, value in desired.items())
    if isinstance(desired, list | tuple):
        return _covers_items(live or (), desired)
    return bool(live == desired) or (live is None and desired == "")


def _covers_field(key: str, live: Any, desired: Any) -> bool:
    if key == "selector":
        return bool(live == desired)
    if key in _QUANTITIES and live is not None:
        return _same_quantity(live, desired)
    if key == "resources":
        return all(_same_quantities((live or {}).get(kind) or {}, values) for kind, values in desired.items())
    return covers(live, desired)


def _same_quantities(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    return all(name in live and _same_quantity(live[name], value) for name, value in desired.items())


def _same_quantity(live: Any, desired: Any) -> bool:
    try:
        return bool(parse_quantity(live) == parse_quantity(desired))
    except ValueError:
        return bool(live == desired)


def _covers_items(live: Sequence[Any], desired: Sequence[Any]) -> bool:
    for key in _IDENTITIES:
        if _identifies(key, desired):
            live_items = {item[key]: item for item in live if isinstance(item.get(key), str)}
            return all(covers(live_items.get(item[key]), item) for item in desired)
    return len(live) == len(desired) and all(covers(one, other) for one, other in zip(live, desired, strict=True))


def _identifies(key: str, items: Sequence[Any]) -> bool:
    values = [item[key] for item in items if isinstance(item, dict) and isinstance(item.get(key), str)]
    return len(set(values)) == len(values) == len(items)
