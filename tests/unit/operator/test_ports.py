"""Each endpoint has one port of the gateways, and no two have the same."""

from typing import Any

import pytest

from forebay_operator import ports
from forebay_operator.cache import Key
from forebay_operator.ports import NoPortLeft, Ports

A, B, C = ("team", "a"), ("team", "b"), ("other", "a")


def sliced(*found: int) -> list[dict[str, Any]]:
    return [{"ports": [{"name": "http", "port": port}]} for port in found]


def test_an_endpoint_keeps_its_port() -> None:
    given = Ports({})
    first = given.find(A, [])
    assert given.find(B, []) != first
    assert given.find(A, []) == first
    assert given.find(A, sliced(first)) == first


def test_what_the_slices_say_goes_before_what_is_free() -> None:
    known: dict[Key, Any] = {A: sliced(20000), B: sliced(20003)}
    given = Ports(known)
    assert given.find(A, known[A]) == 20000
    assert given.find(C, []) == 20004, "those above the highest come first"


def test_a_port_that_another_has_is_not_believed() -> None:
    known: dict[Key, Any] = {A: sliced(20000), B: sliced(20000)}
    given = Ports(known)
    assert {given.find(A, known[A]), given.find(B, known[B])} == {20000, 20001}
    assert given.find(C, sliced(80)) not in (80, 20000, 20001)


def test_a_freed_port_is_given_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "GATEWAY_PORTS", range(20000, 20003))
    given = Ports({})
    assert [given.find(each, []) for each in (A, B)] == [20000, 20001]
    given.release(A)
    assert given.find(C, []) == 20002
    assert given.find(A, []) == 20000
    with pytest.raises(NoPortLeft, match="all 3 ports"):
        given.find(("team", "d"), [])
