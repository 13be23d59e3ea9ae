"""Allowed receivers of webhooks."""

import socket
from pathlib import Path
from typing import Any

import pytest

from forebay_gateway.jobs.lookups import TENANT, Lookups, ServiceResolver
from forebay_gateway.jobs.receivers import (
    Receivers,
    is_allowed,
    read_cluster_domain,
    read_namespaces,
    read_networks,
)


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("93.184.216.34", "", True),
        ("2606:2800:220:1::1", "", True),
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("::ffff:127.0.0.1", "", False),
        ("169.254.169.254", "", False),
        ("fe80::1%eth0", "", False),
        ("64:ff9b::a00:1", "", False),
        ("::7f00:1", "", False),
        ("2002:7f00:1::", "", False),
        ("fec0::1", "", False),
        ("10.96.0.1", "", False),
        ("192.168.1.1", "", False),
        ("100.64.0.1", "", False),
        ("0.0.0.0", "", False),
        ("224.0.0.1", "", False),
        ("168.63.129.16", "", False),
        ("5f00::1", "", False),
        ("3fff::1", "", False),
        ("::ffff:0:7f00:1", "", False),
        ("64:ff9b:1::a00:1", "", False),
        ("2001:0:7f00:1::", "", False),
        ("64:ff9b::5db8:d822", "", True),
        ("10.1.2.3", "10.1.0.0/16, fd00::/8", True),
        ("10.2.2.3", "10.1.0.0/16, fd00::/8", False),
        ("fd00::5", "10.1.0.0/16, fd00::/8", True),
    ],
)
def test_webhooks_may_go_only_to_allowed_addresses(address: str, networks: str, allowed: bool) -> None:
    assert is_allowed(address, read_networks(networks)) == allowed


def receivers(networks: str = "", namespaces: str = "") -> Receivers:
    return Receivers(read_networks(networks), read_namespaces(namespaces), "cluster.local")


@pytest.mark.parametrize(
    ("host", "namespaces", "is_service"),
    [
        ("sink.team-a.svc", "", False),
        ("sink.team-a.svc", "team-a", True),
        ("SINK.Team-A.svc.cluster.local", "team-b, team-a", True),
        ("sink.team-a.svc.cluster.local.", "team-a", True),
        ("sink.team-b.svc", "team-a", False),
        ("sink.home.svc", "own", True),
        ("sink.team-a.svc", "own", False),
        ("sink.own.svc", "own", False),
        ("sink.team-a.svc.evil.example", "team-a", False),
        ("sink.team-a.svc.cluster.local.evil.example", "team-a", False),
        ("team-a.svc", "team-a", False),
        ("a.sink.team-a.svc", "team-a", False),
        ("sink.team-a", "team-a", False),
        ("kubernetes.default.svc", "default", False),
        ("KUBERNETES.default.svc.cluster.local", "default", False),
        ("10.96.0.1", "default", False),
        ("", "team-a", False),
    ],
)
def test_a_service_is_accepted_by_its_name_in_an_allowed_namespace(
    host: str, namespaces: str, is_service: bool
) -> None:
    assert receivers(namespaces=namespaces).is_service(host, "home") == is_service


async def resolve(host: str) -> list[Any]:
    TENANT.set("home")
    lookups = Lookups(0.5)
    try:
        return list(await ServiceResolver(lookups, receivers()).resolve(host, 8080))
    finally:
        lookups.close()


def resolved_to(monkeypatch: pytest.MonkeyPatch, canonical: str, address: str) -> list[str]:
    """Fake DNS; returns the requested names."""
    asked: list[str] = []

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, canonical, (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


async def test_a_service_is_resolved_only_by_its_full_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolved_to(monkeypatch, "sink.team-a.svc.cluster.local", "10.96.3.4")
    (found,) = await resolve("sink.team-a.svc")
    assert (found["hostname"], found["host"], found["port"]) == ("sink.team-a.svc", "10.96.3.4", 8080)
    assert asked == ["sink.team-a.svc.cluster.local."], "no search list is applied"


@pytest.mark.parametrize(
    "target", ["kubernetes.default.svc.cluster.local", "sink.team-b.svc.cluster.local", "evil.example"]
)
async def test_an_alias_of_another_name_is_no_receiver(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    resolved_to(monkeypatch, target, "10.96.0.1")
    with pytest.raises(OSError, match="alias"):
        await resolve("sink.team-a.svc")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.96.3.4", True),
        ("192.168.7.7", True),
        ("fd00::7", True),
        ("10.96.0.1", False),
        ("::ffff:10.96.0.1", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("0.0.0.0", False),
        ("169.254.169.254", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
        ("fd00:ec2::254", False),
        ("fe80::1%eth0", False),
        ("224.0.0.1", False),
    ],
)
def test_a_service_may_not_have_the_address_of_a_node_or_the_api_server(
    monkeypatch: pytest.MonkeyPatch, address: str, allowed: bool
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    found = receivers()
    if allowed:
        found.check_service_address(address)
    else:
        with pytest.raises(OSError, match=r"address of a Service|metadata|API server"):
            found.check_service_address(address)


@pytest.mark.parametrize("address", ["10.96.0.1", "169.254.169.254", "fd00:ec2::254"])
def test_no_allowed_network_includes_the_api_server_or_metadata(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    with pytest.raises(OSError, match=r"metadata|API server"):
        receivers("0.0.0.0/0, ::/0").check_address(address)


def test_the_cluster_domain_is_read_from_the_search_list(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    assert read_cluster_domain(file) == "cluster.local"
    file.write_text(
        "nameserver 10.96.0.10\nsearch system.svc.k8s.example svc.k8s.example k8s.example\noptions ndots:5\n"
    )
    assert read_cluster_domain(file) == "k8s.example"


def test_an_invalid_namespace_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="team_a"):
        read_namespaces("home, team_a")
