"""Secrets with keys are read again where a gateway names them: seldom, at a bounded rate, in turns."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.apiserver.cache import Cache
from forebay_operator.keys import key_refresh
from forebay_operator.keys.key_refresh import KeyRefresher, pick_fairly
from forebay_operator.pods.gateways import Gateways
from tests.waiting import until

ONE, TWO = ("team", "one"), ("team", "two")


def test_namespaces_take_turns() -> None:
    many = [("greedy", str(number)) for number in range(10)]
    assert pick_fairly([*many, ("other", "a"), ("third", "a"), ("other", "b")], 6) == [
        ("greedy", "0"), ("other", "a"), ("third", "a"), ("greedy", "1"), ("other", "b"), ("greedy", "2"),
    ]  # fmt: skip


class Site:
    """An API server with Secrets, and the results."""

    def __init__(self) -> None:
        self.secrets: dict[EndpointKey, dict[str, Any]] = {}
        self.read: list[EndpointKey] = []
        self.keys: dict[EndpointKey, Any] = {}
        self.doubted: list[EndpointKey] = []
        self.merged: list[Any] = []

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        self.read.append((namespace, name))
        return self.secrets.get((namespace, name))

    async def merge(self, manifest: Any, patch: Any) -> Any:
        self.merged.append((manifest["metadata"]["name"], patch["metadata"]["annotations"]))

    def put(self, key: EndpointKey, secret: Any) -> bool:
        before, self.keys[key] = self.keys.get(key), secret
        return before not in (None, secret)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_refresh, "KEY_REFRESH_INTERVAL", 0.01)


@asynccontextmanager
async def reading(site: Any, endpoint: dict[str, Any], *others: dict[str, Any]) -> AsyncIterator[Gateways]:
    """Gateways that name endpoints, and an operator that reads."""
    found = {(each["metadata"]["namespace"], each["metadata"]["name"]): [each] for each in (endpoint, *others)}
    pods = {ONE: [{"metadata": {"namespace": "team", "name": "pod"}}]}
    gateways = Gateways(site, "system", "gateway")
    task = asyncio.create_task(
        KeyRefresher(site, Cache(found, {}, {}, pods), gateways, site, site.doubted.append).run()
    )
    yield gateways
    task.cancel()
    await asyncio.wait({task})


def endpoint(name: str, **auth: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "team", "name": name}, "spec": {"auth": auth}}


def secret(version: str) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": version}, "data": {"key": base64.b64encode(version.encode()).decode()}}


async def test_keys_that_change_reach_gateways_and_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_refresh, "MAX_KEY_AGE", 0.05)
    site = Site()
    site.secrets = {("team", "one-api-key"): secret("1"), ("team", "own"): secret("2")}
    async with reading(site, endpoint("one"), endpoint("two", secretName="own")) as gateways:

        async def named(key: EndpointKey, what: Callable[[], object]) -> None:
            """Name an endpoint repeatedly until a condition is true."""

            def seen() -> bool:
                gateways.reread[key] = None
                return bool(what())

            await until(seen)

        gateways.reread.update(dict.fromkeys([ONE, TWO, ("team", "gone")]))
        await until(lambda: len(site.read) == 2)
        assert (site.keys, site.merged, gateways.reread) == ({ONE: secret("1"), TWO: secret("2")}, [], {})
        site.secrets = {("team", "one-api-key"): secret("3")}
        await named(ONE, lambda: site.merged)
        name, annotations = site.merged[0]
        assert (site.keys[ONE], name, list(annotations)) == (secret("3"), "pod", ["forebay.dev/keys"])
        await named(TWO, lambda: site.keys[TWO] is None)
        assert site.doubted == [], "only the user creates a Secret of the user"
        site.secrets = {}
        await named(ONE, lambda: site.doubted)
        assert site.keys[ONE] == secret("3"), "until it is created again"


async def test_a_secret_is_read_once_in_an_interval() -> None:
    site = Site()
    async with reading(site, endpoint("one"), endpoint("two")) as gateways:
        gateways.reread[ONE] = None
        await until(lambda: not gateways.reread)
        gateways.reread[ONE] = None
        gateways.reread[TWO] = None
        await until(lambda: len(site.read) == 2)
        assert site.read == [("team", "one-api-key"), ("team", "two-api-key")]
        assert list(gateways.reread) == [ONE], "it is queued at its time"


async def test_no_secret_is_read_for_an_endpoint_without_keys() -> None:
    site = Site()
    async with reading(site, endpoint("one", mode="None")) as gateways:
        gateways.reread[ONE] = None
        await until(lambda: not gateways.reread)
    assert site.read == []
