"""The first pass, and the rounds in which the cache is not trusted."""

import asyncio

import pytest

from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.apiserver.cache import Cache, CachedObject, Store
from forebay_operator.controller import workers
from forebay_operator.controller.workers import purge_deleted, resync, wait_for_cache, wait_until_seen
from forebay_operator.work_queue import WorkQueue
from tests.waiting import until

ONE, TWO = ("team", "one"), ("team", "two")


class ListedCluster:
    """Lists objects by kind; fails first if it is unreachable."""

    def __init__(self, **found: set[EndpointKey]) -> None:
        self.found = found
        self.remade: set[tuple[str, EndpointKey]] = set()
        self.asked = self.away = 0

    async def list_uids(self, kind: str, namespaces: object) -> dict[EndpointKey, str]:
        await asyncio.sleep(0.001)
        self.asked += 1
        if self.asked <= self.away:
            raise ApiServerError(503, "", "not now")
        return {key: "another" if (kind, key) in self.remade else key[1] for key in self.found[kind]}


def build_store(kind: str, *keys: EndpointKey) -> Store:
    store = Store()
    for namespace, name in keys:
        labels = {"forebay.dev/endpoint": name}
        metadata = {"namespace": namespace, "name": name, "uid": name, "labels": labels}
        store.put(CachedObject.of({"kind": kind, "metadata": metadata, "spec": {"containers": []}}))
    return store


async def test_startup_waits_for_all_existing_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "UNCACHED_READ_INTERVAL", 60)
    cluster, store = ListedCluster(InferenceEndpoint={ONE, TWO}), build_store("InferenceEndpoint", ONE)
    waiting = asyncio.create_task(wait_for_cache(cluster, (), {"InferenceEndpoint": store}))  # type: ignore[arg-type]
    await until(lambda: cluster.asked)
    assert not waiting.done()
    store.put(
        CachedObject.of({"kind": "InferenceEndpoint", "metadata": {"namespace": "team", "name": "two", "uid": "2"}})
    )
    await asyncio.wait_for(waiting, 20)
    assert cluster.asked == 1


async def test_startup_does_not_wait_for_deleted_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "UNCACHED_READ_INTERVAL", 0.05)
    cluster = ListedCluster(Pod={ONE})
    waiting = asyncio.create_task(wait_until_seen(cluster, "Pod", (), set()))  # type: ignore[arg-type]
    await until(lambda: cluster.asked)
    cluster.found["Pod"] = set()
    await asyncio.wait_for(waiting, 20)


async def test_a_deleted_object_leaves_the_cache_and_queues_its_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PURGE_DELAY", 0.0)
    stores = {kind: build_store(kind, ONE, TWO) for kind in ("InferenceEndpoint", "Service", "Pod")}
    cluster = ListedCluster(InferenceEndpoint={ONE, TWO}, Service={ONE, TWO}, Pod={TWO})
    queue, relisted = WorkQueue[EndpointKey](), asyncio.Event()
    cluster.away = 1
    sweeping = asyncio.create_task(purge_deleted(cluster, queue, stores, (), relisted))  # type: ignore[arg-type]
    relisted.set()
    assert await asyncio.wait_for(queue.get(), 1) == ONE
    assert (set(stores["Pod"]), set(stores["Service"])) == ({TWO}, {ONE, TWO})
    cluster.remade = {("Service", TWO)}
    relisted.set()
    assert await asyncio.wait_for(queue.get(), 1) == TWO
    assert set(stores["Service"]) == {ONE}
    sweeping.cancel()


async def test_the_resync_takes_one_endpoint_at_a_time() -> None:
    refreshed: list[EndpointKey] = []
    rounds = asyncio.create_task(resync(Cache({ONE: (), TWO: ()}, {}, {}, {}), refreshed.append, interval=0.1))
    await until(lambda: len(refreshed) == 4)
    rounds.cancel()
    assert refreshed == [ONE, TWO, ONE, TWO]
