"""The number of replicas of an endpoint whose manifest does not set it.

`spec.replicas` has no default in the schema: a default would be a number that GitOps tools see as desired, and that an
apply without the field would scale to. Instead the operator remembers the last number in the status, and writes this
number into the spec.
"""

from collections.abc import Mapping
from typing import Any

from forebay_operator.spec.endpoint import FIRST_REPLICAS, MAX_REPLICAS, Manifest


def lacks_replicas(manifest: Manifest) -> bool:
    """Whether the endpoint has no `spec.replicas`."""
    spec = manifest.get("spec") or {}
    return isinstance(spec, Mapping) and spec.get("replicas") is None


def choose_replicas(status: Manifest) -> int:
    """The number to fill in: the last number in the status, or FIRST_REPLICAS."""
    remembered = _valid(status.get("desiredReplicas"))
    return FIRST_REPLICAS if remembered is None else remembered


def remember_replicas(manifest: Manifest, status: Manifest) -> Mapping[str, int]:
    """The status field that remembers the number: the value of `spec.replicas`, or the previous value if
    `spec.replicas` is invalid."""
    spec = manifest.get("spec")
    for number in (spec.get("replicas") if isinstance(spec, Mapping) else None, status.get("desiredReplicas")):
        if (valid := _valid(number)) is not None:
            return {"desiredReplicas": valid}
    return {}


def _valid(number: Any) -> int | None:
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return number if is_number and 0 <= number <= MAX_REPLICAS else None
