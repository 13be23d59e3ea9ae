"""The gateway's directory of the cluster."""

from typing import Any

import pytest

from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Address, Slice, read_endpoint, read_slice

KEY = ("team", "one")
KUBERNETES = "endpointslice-controller.k8s.io"
OPERATOR = "gateway.forebay.dev"
MADE = "2026-11-24T12:00:00Z"


def manifest(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {"name": "one", "namespace": "team", "uid": "u1", "generation": 4, "creationTimestamp": MADE}
    return {"metadata": metadata, "spec": {"model": "m", **(spec or {})}, "status": status or {}}


def slice_of(manager: str = KUBERNETES, **changes: Any) -> dict[str, Any]:
    """A slice as Kubernetes, or the operator, makes it for the endpoint's Service."""
    labels = {"kubernetes.io/service-name": "one", "endpointslice.kubernetes.io/managed-by": manager}
    kind = "Service" if manager == KUBERNETES else "InferenceEndpoint"
    owner = {"kind": kind, "name": "one", "uid": "u1", "controller": True}
    metadata = {
        "name": "s",
        "namespace": "team",
        "labels": labels,
        "ownerReferences": [owner],
        "creationTimestamp": MADE,
    }
    ports = [{"name": "metrics", "port": 1}, {"name": "http", "port": 8000 if manager == KUBERNETES else 20000}]
    return {"metadata": {**metadata, **changes.pop("metadata", {})}, "ports": ports, **changes}


def test_an_endpoint_without_status_has_defaults() -> None:
    found = read_endpoint(manifest())
    assert (found.key, found.replicas, found.scales, found.open, found.models) == (KEY, None, False, False, ())
    assert (found.progress, found.created) == ("Pending", 1795521600)


@pytest.mark.parametrize(
    ("spec", "off"),
    [
        ({"replicas": 0}, "replicas: 0, without scaling"),
        ({"replicas": 0, "scaling": {}}, ""),
        ({"replicas": 0, "scaling": {}, "suspend": True}, "suspend: true"),
        ({"replicas": 1, "suspend": True}, "suspend: true"),
        ({"replicas": 1}, ""),
        ({}, ""),
    ],
)
def test_suspended_endpoints_are_not_started(spec: dict[str, Any], off: str) -> None:
    assert read_endpoint(manifest(spec)).off == off


@pytest.mark.parametrize(("observed", "stalled"), [(4, True), (3, False)])
def test_stalled_counts_only_for_the_latest_change(observed: int, stalled: bool) -> None:
    conditions = [{"type": "Stalled", "status": "True", "reason": "X", "message": ""}]
    status = {"observedGeneration": observed, "conditions": conditions}
    assert read_endpoint(manifest(status=status)).stalled is stalled


@pytest.mark.parametrize(
    ("status", "all_models"),
    [
        ({"modelsKnown": "All"}, True),
        ({"modelsKnown": "Some"}, False),
        ({"modelsKnown": "All", "observedGeneration": 3}, False),
        ({}, False),
    ],
    ids=["every name", "hidden names", "a change that the operator has not seen", "an operator of an earlier release"],
)
def test_a_name_is_unknown_only_if_the_operator_knows_every_name(status: dict[str, Any], all_models: bool) -> None:
    found = read_endpoint(manifest(status={"observedGeneration": 4, "models": ["My Model"], **status}))
    assert (found.models, found.all_models) == (("My Model",), all_models)


@pytest.mark.parametrize(
    ("startup", "expected"),
    [
        ({"step": "Importing"}, "Importing"),
        ({"step": "Downloading", "percent": 0}, "Downloading, 0 %"),
        ({"step": "Downloading", "percent": 43, "etaSeconds": 21}, "Downloading, 43 %, about 21 s left"),
    ],
)
def test_progress_is_described_as_far_as_it_is_known(startup: dict[str, Any], expected: str) -> None:
    assert read_endpoint(manifest(status={"startup": startup})).progress == expected


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ({"kind": "Pod", "name": "one-6d8f-x2x7p"}, "one-6d8f-x2x7p"),
        ({"kind": "Node", "name": "one"}, ""),
        ({"kind": "Pod", "name": "one\r\nx: y"}, ""),
        ({"kind": "Pod", "name": "one\n"}, ""),
        ({"kind": "Pod", "name": "a" * 254}, ""),
        ({"kind": "Pod"}, ""),
        (None, ""),
    ],
)
def test_a_pod_name_must_be_valid(target: dict[str, str] | None, name: str) -> None:
    found = read_slice(slice_of(endpoints=[{"addresses": ["10.0.0.1"], "targetRef": target}]))
    assert found
    assert found.ready == (Address("10.0.0.1", 8000, name),)


def test_pods_are_ready_unready_or_terminating() -> None:
    endpoints = [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
        {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "serving": True, "terminating": True}},
        {"addresses": ["10.0.0.4"]},
    ]
    found = read_slice(slice_of(endpoints=endpoints))
    ready = (Address("10.0.0.1", 8000), Address("10.0.0.4", 8000))
    assert found == Slice(KEY, ready=ready, unready=(Address("10.0.0.2", 8000),))


def test_the_gateways_own_slice_gives_its_port_and_no_pods() -> None:
    endpoints = [{"addresses": ["10.0.0.9"], "conditions": {"ready": True}}]
    assert read_slice(slice_of(OPERATOR, endpoints=endpoints)) == Slice(KEY, 20000, "u1", MADE)


@pytest.mark.parametrize("manager", [KUBERNETES, OPERATOR])
@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": []},
        {"ownerReferences": [{"kind": "Pod", "name": "one", "uid": "u1", "controller": True}]},
        {"ownerReferences": [{"kind": "Service", "name": "two", "uid": "u1", "controller": True}]},
        {"ownerReferences": [{"kind": "InferenceEndpoint", "name": "two", "uid": "u1", "controller": True}]},
        {"ownerReferences": [{"kind": "InferenceEndpoint", "name": "one", "uid": "u1"}]},
        {"labels": {"kubernetes.io/service-name": "one"}},
        {"labels": {"kubernetes.io/service-name": "one", "endpointslice.kubernetes.io/managed-by": "me"}},
    ],
    ids=["no owner", "another kind", "another Service", "another endpoint", "no controller", "no manager", "another's"],
)
def test_a_slice_of_another_controller_is_ignored(manager: str, metadata: dict[str, Any]) -> None:
    assert read_slice(slice_of(manager, metadata=metadata, endpoints=[{"addresses": ["10.0.0.9"]}])) is None


@pytest.mark.parametrize("port", [22, 8000, 19999, 30000])
def test_a_port_outside_the_operators_range_is_ignored(port: int) -> None:
    assert read_slice(slice_of(OPERATOR, ports=[{"name": "http", "port": port}])) is None


@pytest.mark.parametrize("ports", [None, [], [{"name": "other", "port": 1}], [{"name": "http"}]])
def test_a_slice_without_the_port_is_ignored(ports: Any) -> None:
    assert read_slice({**slice_of(), "ports": ports}) is None


def test_ids_are_bare_in_the_home_namespace_and_qualified_in_others() -> None:
    directory = Directory("team")
    directory.put_endpoint(read_endpoint(manifest()))
    assert directory.id_of(KEY) == "one"
    assert directory.id_of(("x", "one")) == "x.one"
    assert directory.find("one") == directory.find("team.one") == directory.endpoint(KEY)
    assert directory.find("x.one") is None


def test_ports_follow_the_slices_of_existing_endpoints() -> None:
    directory, notified = Directory("team"), []
    directory.ports_changed.add(lambda: notified.append(directory.ports()))
    directory.put_slice("g", Slice(KEY, 20000, "u1"))
    directory.put_endpoint(read_endpoint(manifest()))
    directory.put_endpoint(read_endpoint(manifest()))
    directory.put_slice("g", Slice(KEY, 20000, "u1"))
    directory.put_slice("g6", Slice(KEY, 20001, "u1"))
    directory.put_slice("g7", Slice(KEY, 20002, "of one before"))
    directory.drop_slice("g", KEY)
    directory.drop_endpoint(KEY)
    first, both, last = {20000: KEY}, {20000: KEY, 20001: KEY}, {20001: KEY}
    assert notified == [{}, first, both, both, last, {}]


def test_a_port_that_two_endpoints_claim_belongs_to_the_first() -> None:
    directory, other = Directory("team"), ("team", "two")
    directory.put_endpoint(read_endpoint(manifest()))
    metadata = {**manifest()["metadata"], "name": "two", "uid": "u2"}
    directory.put_endpoint(read_endpoint({**manifest(), "metadata": metadata}))
    directory.put_slice("late", Slice(other, 20000, "u2", "2026-11-24T12:00:01Z"))
    directory.put_slice("g", Slice(KEY, 20000, "u1", MADE))
    directory.put_slice("own", Slice(other, 20001, "u2", MADE))
    assert directory.ports() == {20000: KEY, 20001: other}
    directory.put_slice("late", Slice(other, 20000, "u2", MADE))
    assert directory.ports() == {20001: other}


def test_pods_of_all_slices_count_until_their_slice_is_removed() -> None:
    directory = Directory("team")
    pods = [Address("10.0.0.1", 8000), Address("10.0.0.2", 8000)]
    directory.put_slice("a", Slice(KEY, ready=(pods[0],)))
    directory.put_slice("b", Slice(KEY, ready=(pods[1],), unready=(pods[0],)))
    assert (directory.ready(KEY), directory.unready(KEY)) == (pods, [pods[0]])
    directory.drop_slice("b", KEY)
    directory.drop_slice("never seen", KEY)
    assert (directory.ready(KEY), directory.unready(KEY)) == ([pods[0]], [])


def test_endpoints_without_a_key_are_listed_until_they_require_one() -> None:
    directory = Directory("team")
    directory.put_endpoint(read_endpoint(manifest({"auth": {"mode": "None"}})))
    assert directory.open() == {KEY}
    directory.put_endpoint(read_endpoint(manifest()))
    assert directory.open() == frozenset()


async def test_waiting_tasks_are_notified_of_changes() -> None:
    directory = Directory("team")
    with directory.changes(KEY) as changed:
        directory.put_slice("a", Slice(("team", "two")))
        assert not changed.is_set()
        directory.put_endpoint(read_endpoint(manifest()))
        assert changed.is_set()
