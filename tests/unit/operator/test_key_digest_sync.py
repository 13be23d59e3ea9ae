"""Digests of keys are written to the gateways' Secrets, and deleted with their endpoints."""

import asyncio
import base64
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.keys import key_digest_sync
from forebay_operator.keys.key_digest_sync import KeyDigestSync, WatchedEndpoints
from tests.unit.operator.fake_api_server import NAMESPACE, FakeApiServer
from tests.waiting import until

A, B = ("team", "a"), ("other", "b")
FIRST, SECOND = "fb_the-first-of-the-keys", "fb_the-second-of-the-keys"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_digest_sync, "DIGEST_SYNC_INTERVAL", 0.0)
    monkeypatch.setattr(key_digest_sync, "RETRY_INTERVAL", 0.0)


@pytest.fixture
def server() -> FakeApiServer:
    return FakeApiServer({})


def secret(*keys: str) -> dict[str, Any]:
    return {"data": {str(number): base64.b64encode(key.encode()).decode() for number, key in enumerate(keys)}}


def opened(server: FakeApiServer, key: str) -> set[tuple[str, str]]:
    """The endpoints that a key opens, as a gateway finds it."""
    keys = KeyAuthorizer()
    for (kind, name), found in server.objects.items():
        if kind == "secrets":
            keys.put_secret(name, found.get("data") or {})
    return set(keys.endpoints_for(key))


@asynccontextmanager
async def leading(
    server: FakeApiServer, living: Collection[EndpointKey] = (A, B), namespaces: Collection[str] = ()
) -> AsyncIterator[tuple[KeyDigestSync, list[EndpointKey]]]:
    """An operator's digest sync while the context lasts, and the endpoints that it queued for it."""
    looked: list[EndpointKey] = []
    made = KeyDigestSync(Cluster(server), NAMESPACE, WatchedEndpoints(lambda: living, namespaces, looked.append))
    keeping = asyncio.create_task(made.run())
    await until(lambda: made._ready)
    yield made, looked
    keeping.cancel()


async def test_a_key_authorizes_its_endpoint_and_is_stored_nowhere(server: FakeApiServer) -> None:
    async with leading(server) as (one, looked):
        assert looked == [A, B]
        assert one.lacks(A)
        one.put(A, secret(FIRST, SECOND, "too short", f"  {FIRST}  \n"))
        one.put(B, None)
        assert not one.lacks(A)
        await until(lambda: opened(server, FIRST) == opened(server, SECOND) == {A})
        assert opened(server, "too short") == set()
        kept = b"".join(base64.b64decode(value) for each in server.objects.values() for value in each["data"].values())
        assert len(kept) > 2 * 64
        assert FIRST.encode() not in kept
        one.put(A, secret(SECOND))
        await until(lambda: opened(server, FIRST) == set())
        one.drop(A)
        await until(lambda: opened(server, SECOND) == set())


async def test_another_operator_adopts_the_digests_and_writes_nothing(server: FakeApiServer) -> None:
    async with leading(server) as (one, _):
        one.put(A, secret(FIRST))
        one.put(B, secret(SECOND))
        await until(lambda: opened(server, FIRST) == {A} and opened(server, SECOND) == {B})
    before = server.writes
    async with leading(server, living=[A]) as (another, looked):
        assert not another.lacks(A)
        assert another.lacks(B)
        assert looked == []
        await until(lambda: opened(server, SECOND) == set())
        assert opened(server, FIRST) == {A}
        another.put(A, secret(FIRST))
        assert server.writes == before + 1, "the digests of the deleted endpoint"
        another.put(("team", "c"), secret(SECOND))
        await until(lambda: opened(server, SECOND) == {("team", "c")})
        assert server.writes == before + 2, "written digests were not written again"


async def test_endpoints_of_other_namespaces_are_not_changed(server: FakeApiServer) -> None:
    async with leading(server) as (one, _):
        one.put(B, secret(SECOND))
        await until(lambda: opened(server, SECOND) == {B})
    async with leading(server, living=[A], namespaces=["team"]) as (another, _):
        another.put(A, secret(FIRST))
        await until(lambda: opened(server, FIRST) == {A})
        assert opened(server, SECOND) == {B}


@pytest.mark.parametrize("lost", [names.DIGEST_KEY_SECRET, "shards"])
async def test_a_deleted_shard_is_restored(server: FakeApiServer, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_digest_sync, "KEY_READ_INTERVAL", 0.05)
    async with leading(server, living=[A]) as (one, looked):
        one.put(A, secret(FIRST))
        await until(lambda: opened(server, FIRST) == {A})
        looked.clear()
        for place in list(server.objects):
            if (place[1] == lost) if lost != "shards" else (place[1] in names.DIGEST_SECRETS):
                server.remove(*place)
        if lost == names.DIGEST_KEY_SECRET:
            await until(lambda: looked == [A])
            assert one.lacks(A), "the key of the endpoint is needed again"
            one.put(A, secret(FIRST))
        await until(lambda: opened(server, FIRST) == {A})
        assert bool(looked) == (lost == names.DIGEST_KEY_SECRET)


async def test_an_invalid_install_key_is_replaced(server: FakeApiServer) -> None:
    server.put("secrets", {"metadata": {"name": names.DIGEST_KEY_SECRET}, "data": {}})
    async with leading(server) as (one, _):
        one.put(A, secret(FIRST))
        await until(lambda: opened(server, FIRST) == {A})


async def test_an_unreachable_api_server_loses_no_digest(server: FakeApiServer) -> None:
    async with leading(server) as (one, _):
        server.failing = 1
        one.put(A, secret(FIRST))
        await until(lambda: opened(server, FIRST) == {A})


async def test_digests_not_written_before_the_lease_was_lost_are_read_again(server: FakeApiServer) -> None:
    looked: list[EndpointKey] = []
    one = KeyDigestSync(Cluster(server), NAMESPACE, WatchedEndpoints(lambda: [A], (), looked.append))
    keeping = asyncio.create_task(one.run())
    await until(lambda: one._ready)
    one.put(A, secret(FIRST))
    await until(lambda: opened(server, FIRST) == {A})
    keeping.cancel()
    one.put(A, secret(SECOND))  # no task writes it any more
    looked.clear()
    keeping = asyncio.create_task(one.run())
    await until(lambda: looked == [A])
    one.put(A, secret(SECOND))
    await until(lambda: opened(server, SECOND) == {A} and not opened(server, FIRST))
    keeping.cancel()


async def test_the_keys_of_one_endpoint_cannot_use_all_space(server: FakeApiServer) -> None:
    async with leading(server) as (one, _):
        one.put(A, secret(*(f"one-of-very-many-keys-{number}" for number in range(1000))))
        await until(lambda: opened(server, "one-of-very-many-keys-0") == {A})
        lines = [base64.b64decode(value).split() for each in server.objects.values() for value in each["data"].values()]
        assert max(map(len, lines)) == key_digest_sync.MAX_KEYS_PER_ENDPOINT


async def test_the_keys_of_one_namespace_cannot_use_all_space(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_digest_sync, "SECRET_BYTES", 3000)
    many, other = [("team", f"a{number}") for number in range(2000)], ("other", "b")
    async with leading(server, [*many, other]) as (one, _):
        for key in many:
            one.put(key, secret(FIRST, f"{key[1]}-and-some-more-characters"))
        one.put(other, secret(SECOND))
        await until(lambda: opened(server, SECOND) == {other})
        first = opened(server, FIRST)
        assert 0 < len(first) <= 16 * 1500 / 130
        for key in first:
            one.drop(key)
        one.put(many[0], secret(SECOND))
        await until(lambda: opened(server, SECOND) == {other, many[0]})
