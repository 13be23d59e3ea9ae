"""Looks up conditions in the status of Kubernetes objects.

The operator reads the conditions of Deployments, pods and routes. The gateway reads the conditions of endpoints.
"""

from collections.abc import Mapping
from typing import Any


def find_condition(status: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """The condition of a type in a status; empty if there is none."""
    conditions = (status or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def is_true(status: Mapping[str, Any] | None, kind: str) -> bool:
    """Whether the condition of a type is True."""
    return find_condition(status, kind).get("status") == "True"
