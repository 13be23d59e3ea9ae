"""Each endpoint has one port of the gateways, and no two have the same."""

from typing import Any

import pytest

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.gateway_slices import port_allocator
from forebay_operator.gateway_slices.port_allocator import NoPortLeft, PortAllocator

A, B, C = ("team", "a"), ("team", "b"), ("other", "a")
UID = "u"
ENDPOINTS: dict[EndpointKey, Any] = {key: [{"metadata": {"uid": UID}}] for key in (A, B, C)}


def sliced(port: int, owner: str = UID, made: str = "2026-11-24T12:00:00Z") -> list[dict[str, Any]]:
    owners = [{"kind": "InferenceEndpoint", "name": "a", "uid": owner, "controller": True}]
    metadata = {"ownerReferences": owners, "creationTimestamp": made}
    return [{"metadata": metadata, "ports": [{"name": "http", "port": port}]}]


def test_an_endpoint_keeps_its_port() -> None:
    given = PortAllocator({}, ENDPOINTS)
    first = given.find(A, UID, [])
    assert given.find(B, UID, []) != first
    assert given.find(A, UID, []) == first
    assert given.find(A, UID, sliced(first)) == first


def test_ports_in_existing_slices_take_precedence() -> None:
    known: dict[EndpointKey, Any] = {A: sliced(20000), B: sliced(20003)}
    given = PortAllocator(known, ENDPOINTS)
    assert given.find(A, UID, known[A]) == 20000
    assert given.find(C, UID, []) == 20004, "those above the highest come first"


def test_a_port_of_another_endpoint_is_not_accepted() -> None:
    known: dict[EndpointKey, Any] = {A: sliced(20000), B: sliced(20000)}
    given = PortAllocator(known, ENDPOINTS)
    assert {given.find(A, UID, known[A]), given.find(B, UID, known[B])} == {20000, 20001}
    assert given.find(C, UID, sliced(80)) not in (80, 20000, 20001)


def test_a_freed_port_is_reused_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_allocator, "GATEWAY_PORTS", range(20000, 20003))
    given = PortAllocator({}, ENDPOINTS, share=1)
    assert [given.find(each, UID, []) for each in (A, B)] == [20000, 20001]
    given.release(A)
    assert given.find(C, UID, []) == 20002
    assert given.find(A, UID, []) == 20000
    with pytest.raises(NoPortLeft, match="all 3 ports"):
        given.find(("team", "d"), UID, [])


def test_a_slice_without_the_current_owner_gives_no_port() -> None:
    known: dict[EndpointKey, Any] = {A: sliced(20005, "another"), B: [{"metadata": {}, "ports": [{"port": 20006}]}]}
    given = PortAllocator(known, ENDPOINTS)
    assert [given.find(key, UID, known[key]) for key in (A, B)] == [20000, 20001]


def test_the_first_of_two_claims_on_a_port_wins() -> None:
    known: dict[EndpointKey, Any] = {A: sliced(20000, made="2026-11-24T12:00:01Z"), C: sliced(20000)}
    given = PortAllocator(known, ENDPOINTS)
    assert given.find(A, UID, known[A]) != 20000
    assert given.find(C, UID, known[C]) == 20000


def test_a_namespace_gets_at_most_half_of_the_remaining_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_allocator, "GATEWAY_PORTS", range(20000, 20010))
    given = PortAllocator({}, ENDPOINTS)
    for number in range(5):
        given.find(("greedy", str(number)), UID, [])
    with pytest.raises(NoPortLeft, match="namespace greedy uses 5 of the 10 ports of the gateways, others use 0"):
        given.find(("greedy", "6"), UID, [])
    assert [given.find(("other", str(number)), UID, []) for number in range(2)] == [20005, 20006]
    given.release(("greedy", "0"))
    with pytest.raises(NoPortLeft):
        given.find(("greedy", "6"), UID, [])
    given.release(("greedy", "1"))
    assert given.find(("greedy", "6"), UID, []) == 20007
