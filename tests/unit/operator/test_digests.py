"""Digests of keys reach the Secrets that the gateways read, and leave them with their endpoints."""

import asyncio
import base64
from typing import Any

import pytest

from forebay_gateway.keys import Keys
from forebay_operator import digests, names
from forebay_operator.cluster import Cluster
from forebay_operator.digests import Digests
from tests.unit.operator.fake_api_server import NAMESPACE, FakeApiServer

A, B = ("team", "a"), ("other", "b")
FIRST, SECOND = "fb_the-first-of-the-keys", "fb_the-second-of-the-keys"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "INTERVAL", 0.0)


@pytest.fixture
def server() -> FakeApiServer:
    return FakeApiServer({})


def secret(*keys: str) -> dict[str, Any]:
    return {"data": {str(number): base64.b64encode(key.encode()).decode() for number, key in enumerate(keys)}}


def opened(server: FakeApiServer, key: str) -> set[tuple[str, str]]:
    """The endpoints that a key opens, as a gateway finds it."""
    keys = Keys()
    for (kind, name), found in server.objects.items():
        if kind == "secrets":
            keys.put_secret(name, found.get("data") or {})
    return set(keys.opened_by(key))


async def lead(server: FakeApiServer, living: Any = (A, B), namespaces: Any = ()) -> Digests:
    """A new operator's digests."""
    made = Digests(Cluster(server), NAMESPACE)
    await made.prepare(living, namespaces)
    return made


async def settle(*made: Digests) -> None:
    """Let them write all that is due."""
    tasks = [asyncio.create_task(each.run()) for each in made]
    for _ in range(50):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()


async def test_a_key_opens_its_endpoint_and_is_nowhere_to_be_read(server: FakeApiServer) -> None:
    one = await lead(server)
    assert not one.knows(A)
    one.put(A, secret(FIRST, SECOND, "too short", f"  {FIRST}  \n"))
    one.put(B, None)
    assert one.knows(A)
    await settle(one)
    assert opened(server, FIRST) == opened(server, SECOND) == {A}
    assert opened(server, "too short") == set()
    assert FIRST not in str(server.objects)
    one.put(A, secret(SECOND))
    await settle(one)
    assert opened(server, FIRST) == set()
    one.drop(A)
    await settle(one)
    assert opened(server, SECOND) == set()


async def test_another_operator_takes_over_what_is_written_and_writes_nothing(server: FakeApiServer) -> None:
    one = await lead(server)
    one.put(A, secret(FIRST))
    one.put(B, secret(SECOND))
    await settle(one)
    before = server.writes
    another = await lead(server, living=[A])
    assert another.knows(A)
    assert not another.knows(B)
    await settle(another)
    assert opened(server, FIRST) == {A}
    assert opened(server, SECOND) == set(), "the digests of an endpoint that is gone go"
    assert server.writes == before + 1


async def test_endpoints_of_other_namespaces_are_left_alone(server: FakeApiServer) -> None:
    one = await lead(server)
    one.put(B, secret(SECOND))
    await settle(one)
    await settle(await lead(server, living=[A], namespaces=["team"]))
    assert opened(server, SECOND) == {B}


@pytest.mark.parametrize("lost", [names.DIGEST_KEY_SECRET, "shards"])
async def test_what_somebody_deletes_comes_back(
    server: FakeApiServer, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = []
    one = Digests(Cluster(server), NAMESPACE, lambda: renewed.append(True))
    await one.prepare([A], ())
    one.put(A, secret(FIRST))
    await settle(one)
    for place in list(server.objects):
        if (place[1] == lost) if lost != "shards" else (place[1] in names.DIGEST_SECRETS):
            server.remove(*place)
    await one.read()  # as from time to time
    if renewed:
        assert not one.knows(A), "the key of the endpoint is needed again"
        one.put(A, secret(FIRST))
    assert bool(renewed) == (lost == names.DIGEST_KEY_SECRET)
    one._news.set()
    await settle(one)
    assert opened(server, FIRST) == {A}


async def test_an_api_server_that_is_away_loses_nothing(server: FakeApiServer) -> None:
    one = await lead(server)
    one.put(A, secret(FIRST))
    server.failing = 1
    await settle(one)
    assert opened(server, FIRST) == {A}
