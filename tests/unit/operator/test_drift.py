"""When a child is written again, and when it is left alone."""

from typing import Any

import pytest

from forebay_operator.labels import APPLIED_ANNOTATION
from forebay_operator.resources.drift import covers, find_creation, needs_apply

COVERED = [
    ({"a": 1}, {"a": 1, "b": 2}),
    ({"a": {}}, {}),
    ({"value": ""}, {"name": "x"}),
    ({"a": ""}, {}),
    ({"a": {"b": []}}, {"a": {}}),
    ([{"name": "x", "v": 1}], [{"name": "w"}, {"name": "x", "v": 1, "more": 2}]),
    (["a", "b"], ["a", "b"]),
    ({"resources": {"limits": {"cpu": "0.5"}}}, {"resources": {"limits": {"cpu": "500m"}}}),
    ({"resources": {"limits": {"memory": "1024Mi", "g": 1}}}, {"resources": {"limits": {"memory": "1Gi", "g": "1"}}}),
    ({"selector": {"a": "b"}}, {"selector": {"a": "b"}}),
    ({"sizeLimit": "1024Mi"}, {"sizeLimit": "1Gi"}),
    ({"divisor": "1000m"}, {"divisor": "1"}),
    (
        [{"name": "x", "mountPath": "/a"}, {"name": "x", "mountPath": "/b"}],
        [{"name": "x", "mountPath": "/b"}, {"name": "x", "mountPath": "/a"}],
    ),
    ([{"name": "x", "port": 1}, {"name": "x", "port": 2}], [{"name": "x", "port": 1}, {"name": "x", "port": 2}]),
]

DRIFTED = [
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {}),
    ({"a": {"b": 1}}, {"a": None}),
    ({"a": {"b": 1}}, {"a": "text"}),
    ([{"name": "x", "v": 1}], [{"name": "x", "v": 2}]),
    ([{"name": "x"}], []),
    ([{"key": "x"}], [{"key": "x"}, {"key": "y"}]),
    ({"resources": {"limits": {"cpu": "0.5"}}}, {"resources": {"limits": {"cpu": "501m"}}}),
    ({"resources": {"limits": {"cpu": "0.5"}}}, {"resources": {"limits": {}}}),
    ({"resources": {"limits": {"cpu": "0.5"}}}, {}),
    ({"annotations": {"limits": "none"}}, {"annotations": {"limits": "some"}}),
    ({"allowPrivilegeEscalation": False}, {}),
    ({"automountServiceAccountToken": False}, {"automountServiceAccountToken": None}),
    ({"selector": {"a": "b"}}, {"selector": {"a": "b", "c": "d"}}),
    ({"value": "0.5"}, {"value": "500m"}),
    ({"sizeLimit": "1Gi"}, {"sizeLimit": "2Gi"}),
    ({"sizeLimit": "1Gi"}, {}),
    ({"sizeLimit": "lots"}, {"sizeLimit": "1Gi"}),
    ([{"name": "x", "port": 1}, {"name": "x", "port": 2}], [{"name": "x", "port": 1}, {"name": "x", "port": 3}]),
]


@pytest.mark.parametrize(("desired", "live"), COVERED)
def test_fields_added_by_others_are_no_drift(desired: Any, live: Any) -> None:
    assert covers(live, desired)


@pytest.mark.parametrize(("desired", "live"), DRIFTED)
def test_a_change_of_an_applied_field_is_drift(desired: Any, live: Any) -> None:
    assert not covers(live, desired)


@pytest.mark.parametrize(
    ("applied", "value", "expected"), [("d1", 1, False), ("d0", 1, True), ("d1", 2, True), (None, 1, True)]
)
def test_a_write_is_due_after_a_change_of_the_desired_state_or_drift(
    applied: str | None, value: int, expected: bool
) -> None:
    desired = {"kind": "Deployment", "metadata": {"annotations": {APPLIED_ANNOTATION: "d1"}}, "spec": {"v": 1}}
    annotations = {APPLIED_ANNOTATION: applied} if applied else None
    assert needs_apply(desired, {**desired, "metadata": {"annotations": annotations}, "spec": {"v": value}}) is expected


def test_a_port_added_to_the_service_is_drift() -> None:
    annotations = {APPLIED_ANNOTATION: "d1"}
    api, ops = {"name": "http", "port": 80}, {"name": "ops", "port": 8001}
    desired = {"kind": "Service", "metadata": {"annotations": annotations}, "spec": {"ports": [api]}}
    assert not needs_apply(desired, {**desired})
    assert needs_apply(desired, {**desired, "spec": {"ports": [api, ops]}})


@pytest.mark.parametrize(
    ("managers", "place"),
    [
        ([("kubectl", "Update"), ("forebay", "Update")], 1),
        ([("forebay", "Apply")], None),
        ([("forebay", "Apply"), ("forebay", "Update")], None),
        ([("kubectl", "Update")], None),
        ([], None),
    ],
)
def test_fields_set_on_creation_are_found_until_they_have_been_applied(
    managers: list[tuple[str, str]], place: int | None
) -> None:
    entries = [{"manager": manager, "operation": operation} for manager, operation in managers]
    assert find_creation({"metadata": {"managedFields": entries}}) == place
