"""Does a child still look as it was made?"""

from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from forebay_operator.names import APPLIED_ANNOTATION
from forebay_operator.types import Manifest


def needs_apply(desired: Manifest, live: Manifest) -> bool:
    """Whether a write is due: something else is desired than was last applied, or somebody changed what we own.

    What others add beside our fields is theirs and does not count.
    """
    last = (live["metadata"].get("annotations") or {}).get(APPLIED_ANNOTATION)
    return last != desired["metadata"]["annotations"][APPLIED_ANNOTATION] or not covers(live, desired)


def covers(live: Any, desired: Any, quantities: bool = False) -> bool:
    """Whether every value of `desired` is in `live`, which may hold more.

    Items of a list that have a name are found by it, others by position. Under requests and limits values are
    compared as quantities, since the API server rewrites 0.5 as 500m.
    """
    if isinstance(desired, Mapping):
        live = live if isinstance(live, Mapping) else {}
        return all(
            covers(live.get(key), value, key in ("requests", "limits") or quantities) for key, value in desired.items()
        )
    if isinstance(desired, Sequence) and not isinstance(desired, str):
        return _covers_items(live or (), desired)
    if quantities and live is not None:
        return bool(parse_quantity(live) == parse_quantity(desired))
    return bool(live == desired) or (not live and not desired)


def _covers_items(live: Sequence[Any], desired: Sequence[Any]) -> bool:
    if all(isinstance(item, Mapping) and "name" in item for item in desired):
        by_name = {item.get("name"): item for item in live}
        return all(covers(by_name.get(item["name"]), item) for item in desired)
    return len(live) == len(desired) and all(covers(one, other) for one, other in zip(live, desired, strict=True))
