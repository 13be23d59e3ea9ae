"""What was deleted while no watch ran leaves the cache."""

import asyncio
from collections.abc import Collection
from typing import Any

from forebay_operator.api import ApiError
from forebay_operator.cache import Cache
from forebay_operator.names import KIND
from forebay_operator.queue import WorkQueue
from forebay_operator.workers import sweep
from tests.kubectl import Manifest

KEY = "team", "one"


def known(name: str, uid: str) -> Manifest:
    return {"metadata": {"name": name, "namespace": "team", "uid": uid}}


class Lists:
    """Lists of what lives; the first fails."""

    def __init__(self, living: dict[str, set[str]]) -> None:
        self._living = living
        self.asked = 0

    async def list_uids(self, kind: str, namespaces: Collection[str]) -> set[str]:
        self.asked += 1
        if self.asked == 1:
            raise ApiError(0, "Unreachable", "still down")
        return self._living[kind]


async def test_ghosts_are_forgotten_and_their_endpoint_is_looked_at(monkeypatch: Any) -> None:
    monkeypatch.setattr("forebay_operator.workers.SWEEP_DELAY", 0.0)
    pods = [known("one-a", "ghost"), known("one-b", "alive")]
    cache = Cache({KEY: [known("one", "e")]}, {KEY: [known("one", "old")]}, {KEY: [known("one", "s")]}, {KEY: pods})
    queue: WorkQueue[tuple[str, str]] = WorkQueue()
    begun_anew = asyncio.Event()
    begun_anew.set()
    lists: Any = Lists({KIND: {"e"}, "Deployment": {"new"}, "Service": {"s"}, "Pod": {"alive"}})
    sweeping = asyncio.create_task(sweep(lists, queue, cache, [], begun_anew))
    async with asyncio.timeout(5):
        assert await queue.get() == KEY
    sweeping.cancel()
    assert [pod["metadata"]["uid"] for pod in cache.pods_of(KEY)] == ["alive"]
    assert cache.deployment(KEY) is None
    assert cache.endpoint(KEY)
    assert cache.service(KEY)
