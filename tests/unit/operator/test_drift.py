"""When a child is written again, and when it is left alone."""

from typing import Any

import pytest

from forebay_operator.drift import covers, needs_apply
from forebay_operator.names import APPLIED_ANNOTATION

COVERED = [
    ({"a": 1}, {"a": 1, "b": 2}),
    ({"a": {}}, {}),
    ({"a": ""}, {}),
    ({"a": {"b": []}}, {"a": {}}),
    ([{"name": "x", "v": 1}], [{"name": "w"}, {"name": "x", "v": 1, "more": 2}]),
    (["a", "b"], ["a", "b"]),
    ({"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "500m"}}),
    ({"requests": {"memory": "1024Mi", "gpu": 1}}, {"requests": {"memory": "1Gi", "gpu": "1"}}),
]

DRIFTED = [
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {}),
    ({"a": {"b": 1}}, {"a": None}),
    ({"a": {"b": 1}}, {"a": "text"}),
    ([{"name": "x", "v": 1}], [{"name": "x", "v": 2}]),
    ([{"name": "x"}], []),
    ([{"key": "x"}], [{"key": "x"}, {"key": "y"}]),
    ({"limits": {"cpu": "0.5"}}, {"limits": {"cpu": "501m"}}),
    ({"limits": {"cpu": "0.5"}}, {"limits": {}}),
    ({"value": "0.5"}, {"value": "500m"}),
]


@pytest.mark.parametrize(("desired", "live"), COVERED)
def test_what_others_add_is_no_drift(desired: Any, live: Any) -> None:
    assert covers(live, desired)


@pytest.mark.parametrize(("desired", "live"), DRIFTED)
def test_a_change_of_what_is_ours_is_drift(desired: Any, live: Any) -> None:
    assert not covers(live, desired)


@pytest.mark.parametrize(
    ("applied", "value", "expected"), [("d1", 1, False), ("d0", 1, True), ("d1", 2, True), (None, 1, True)]
)
def test_a_write_is_due_for_another_wish_or_for_drift(applied: str | None, value: int, expected: bool) -> None:
    desired = {"metadata": {"annotations": {APPLIED_ANNOTATION: "d1"}}, "spec": {"v": 1}}
    annotations = {APPLIED_ANNOTATION: applied} if applied else None
    assert needs_apply(desired, {"metadata": {"annotations": annotations}, "spec": {"v": value}}) is expected
