"""The URLs in status.addresses."""

import argparse
from typing import Any

import pytest

from forebay_operator.arguments import read_urls
from forebay_operator.spec import Manifest, Route, parse_endpoint
from forebay_operator.status.addresses import MAX_ADDRESSES, list_addresses
from forebay_operator.status.route_urls import find_route_urls
from tests.unit.operator.builders import endpoint_manifest


def listed(found_service: Manifest | None, *bases: str, routes: tuple[str, ...] = (), **spec: Any) -> list[str]:
    endpoint = parse_endpoint(endpoint_manifest(**spec))
    found = list_addresses(endpoint, found_service, path_id="team.one", gateways=bases, routes=routes)
    return [f"{each['type']} {each['url']}" for each in found]


def balanced(*ingress: Manifest) -> Manifest:
    return {"status": {"loadBalancer": {"ingress": list(ingress)}}}


BALANCER = {"type": "LoadBalancer"}

OWN = "Service http://one.team.svc/v2/one/openai/v1"


@pytest.mark.parametrize(
    ("spec", "found", "others"),
    [
        ({}, None, []),
        ({}, balanced({"ip": "1.2.3.4"}), []),
        (BALANCER, None, []),
        (BALANCER, balanced(), []),
        (BALANCER, balanced({"ip": "1.2.3.4"}), ["http://1.2.3.4"]),
        (BALANCER, balanced({"ip": "fd00::1"}, {"ip": ""}), ["http://[fd00::1]"]),
        (BALANCER, balanced({"hostname": "a.elb.example.com"}), ["http://a.elb.example.com"]),
    ],
)
def test_a_service_has_its_own_url_and_those_of_its_load_balancer(
    spec: Manifest, found: Manifest | None, others: list[str]
) -> None:
    assert listed(found, service=spec) == [OWN, *(f"Service {url}/v2/one/openai/v1" for url in others)]


def test_another_port_of_the_service_is_in_its_urls() -> None:
    spec = {"type": "LoadBalancer", "port": 8080}
    assert listed(balanced({"ip": "fd00::1"}), service=spec) == [
        "Service http://one.team.svc:8080/v2/one/openai/v1",
        "Service http://[fd00::1]:8080/v2/one/openai/v1",
    ]


def test_each_way_to_the_endpoint_has_its_type() -> None:
    bases = "http://forebay-gateway.forebay-system.svc", "https://models.example.com"
    assert listed(None, *bases, routes=("https://llm.example.com:8443",)) == [
        OWN,
        "Gateway http://forebay-gateway.forebay-system.svc/v2/team.one/openai/v1",
        "Gateway https://models.example.com/v2/team.one/openai/v1",
        "Route https://llm.example.com:8443/v2/team.one/openai/v1",
    ]


def test_the_list_fits_the_schema() -> None:
    routes = tuple(f"https://a{number}.example.com" for number in range(100))
    assert len(listed(None, "http://" + "x" * 1100, routes=routes)) == MAX_ADDRESSES


def test_the_route_keeps_its_addresses_where_it_was_not_read() -> None:
    before = [{"type": "Service", "url": "http://before"}, {"type": "Route", "url": "https://llm.example.com/x"}]
    endpoint = parse_endpoint(endpoint_manifest())
    found = list_addresses(endpoint, None, path_id="one", gateways=(), routes=(), previous=before)
    assert [each["url"] for each in found] == ["http://one.team.svc/v2/one/openai/v1", "https://llm.example.com/x"]


HTTP = {"name": "web", "port": 80, "protocol": "HTTP"}
HTTPS = {"name": "tls", "port": 443, "protocol": "HTTPS"}
WILD = {**HTTPS, "name": "wild", "hostname": "*.example.com", "port": 8443}
FIXED = {**HTTPS, "name": "fixed", "hostname": "llm.example.com"}
TCP = {"name": "tcp", "port": 5432, "protocol": "TCP"}
PUBLIC = {"name": "public"}


@pytest.mark.parametrize(
    ("parent", "hostnames", "listeners", "urls"),
    [
        (PUBLIC, ["a.example.com"], [HTTP], ["http://a.example.com"]),
        (PUBLIC, ["a.example.com"], [HTTP, HTTPS], ["https://a.example.com"]),
        (PUBLIC, ["a.example.com", "b.example.com"], [WILD], ["https://a.example.com:8443", "https://b.example.com:8443"]),
        (PUBLIC, ["a.example.org"], [WILD, FIXED], []),
        (PUBLIC, ["*.example.com"], [HTTP], []),
        (PUBLIC, ["*.example.com"], [FIXED], ["https://llm.example.com"]),
        (PUBLIC, [], [FIXED], ["https://llm.example.com"]),
        (PUBLIC, [], [WILD], []),
        (PUBLIC, [], [HTTP], ["http://10.1.2.3", "http://[fd00::1]"]),
        (PUBLIC, [], [HTTP, HTTPS], ["https://10.1.2.3", "https://[fd00::1]"]),
        (PUBLIC, ["a.example.com"], [TCP], []),
        ({**PUBLIC, "sectionName": "web"}, ["a.example.com"], [HTTP, HTTPS], ["http://a.example.com"]),
        ({**PUBLIC, "port": 443}, ["a.example.com"], [HTTP, HTTPS], ["https://a.example.com"]),
        ({**PUBLIC, "sectionName": "other"}, ["a.example.com"], [HTTP], []),
    ],
)  # fmt: skip
def test_a_route_has_the_urls_of_the_listeners_that_it_attaches_to(
    parent: Manifest, hostnames: list[str], listeners: list[Manifest], urls: list[str]
) -> None:
    addresses = [{"type": "IPAddress", "value": "10.1.2.3"}, {"type": "IPAddress", "value": "fd00::1"}]
    gateway = {"spec": {"listeners": listeners}, "status": {"addresses": addresses}}
    assert find_route_urls(Route((parent,), tuple(hostnames)), [(parent, gateway)]) == urls


def test_a_gateway_without_an_address_gives_no_url() -> None:
    assert find_route_urls(Route((PUBLIC,)), [(PUBLIC, {"spec": {"listeners": [HTTP]}})]) == []


def test_urls_of_the_gateways_have_no_path() -> None:
    urls = ("http://gateway.a.svc:8080", "https://models.example.com")
    assert read_urls("http://gateway.a.svc:8080, https://models.example.com/") == urls
    for wrong in ("models.example.com", "ftp://a", "https://a/v2", "https://a?b", "https://"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a URL without a path"):
            read_urls(wrong)
