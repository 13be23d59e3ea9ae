"""Endless loops around the work queue: the workers, the resync, and the purge of deleted objects. `app` starts them."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Set
from contextlib import suppress
from typing import Any

from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.apiserver.cache import Cache, Store
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.apiserver.leader_election import Candidate
from forebay_operator.controller.reconciler import Reconciler
from forebay_operator.metrics import LEADER, RECONCILE_SECONDS
from forebay_operator.work_queue import WorkQueue

logger = logging.getLogger(__name__)

WORKERS = 4
"""Endpoints that are reconciled concurrently."""

RESYNC_INTERVAL = 300.0
"""Seconds in which up to RESYNC_SIZE endpoints are reconciled once without the cache, because Secrets are not
watched."""

RESYNC_SIZE = 150
"""Endpoints that are resynced in one interval. Each endpoint takes half a dozen requests; all endpoints together take
less than a hundredth of a core. With more endpoints a round takes several intervals: with 5,000 it takes 3 hours."""

PURGE_INTERVAL = 300.0
"""Seconds between two purges of a cache of up to PURGE_SIZE objects, when no watch was restarted."""

PURGE_SIZE = 2000
"""With more objects the interval grows in proportion, because a purge lists all of them. So purges take less than a
thousandth of a core."""

PURGE_DELAY = 1.0
"""Seconds from the restart of a watch to the purge of deleted objects. Other watches often restart at the same time."""

UNCACHED_READ_INTERVAL = 2.0
"""Seconds between two lists from the API server while some of the listed objects are still missing in the cache."""


async def work_while_leading(
    candidate: Candidate, queue: WorkQueue[EndpointKey], works: Callable[[], Iterable[Coroutine[Any, Any, None]]]
) -> None:
    """Run `works` whenever this operator leads. They are cancelled when it stops leading. Never returns."""
    while True:
        await candidate.wait_until(is_leader=True)
        LEADER.set(1)
        queue.retry_now()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each) for each in works()]
                await candidate.wait_until(is_leader=False)
                for task in tasks:
                    task.cancel()
        finally:
            LEADER.set(0)


async def work(queue: WorkQueue[EndpointKey], reconciler: Reconciler, seen: set[EndpointKey]) -> None:
    """Reconcile keys from the queue, forever. A failure never stops the loop. Each handled key is added to `seen`."""
    while True:
        key = await queue.get()
        result, began = "error", time.monotonic()
        try:
            result = "done" if await reconciler.reconcile(key) else "retry"
        except ApiServerError as error:
            logger.warning("endpoint %s/%s: %s", *key, error)
        except Exception:
            logger.exception("endpoint %s/%s: reconcile failed", *key)
        finally:
            seen.add(key)
            RECONCILE_SECONDS.labels(result).observe(time.monotonic() - began)
            delay = queue.done(key, failed=result != "done")
        if delay:
            logger.debug("endpoint %s/%s: retry in %.1f s", *key, delay)


async def wait_for_cache(cluster: Cluster, namespaces: Collection[str], stores: Mapping[str, Store]) -> None:
    """Wait until the cache (`stores`, by kind) has all objects that exist.

    `namespaces` are those that are watched; empty means all.
    """
    for kind, store in stores.items():
        await wait_until_seen(cluster, kind, namespaces, store.names)


async def wait_until_seen(cluster: Cluster, kind: str, namespaces: Collection[str], seen: Set[EndpointKey]) -> None:
    """Wait until `seen` has the namespace and name of every existing object of a kind."""
    while True:
        try:
            missing = set(await cluster.list_uids(kind, namespaces))
        except ApiServerError as error:
            logger.warning("list of %s: %s", kind, error)
            await asyncio.sleep(UNCACHED_READ_INTERVAL)
            continue
        read = time.monotonic()
        while time.monotonic() - read < UNCACHED_READ_INTERVAL:
            missing = {name for name in missing if name not in seen}
            if not missing:
                return
            await asyncio.sleep(UNCACHED_READ_INTERVAL / 40)


async def resync(cache: Cache, refresh: Callable[[EndpointKey], None], interval: float = RESYNC_INTERVAL) -> None:
    """Refresh every endpoint once per round, forever. A round takes one `interval` (seconds) or several."""
    while True:
        keys = list(cache.endpoints)
        if not keys:
            await asyncio.sleep(interval)
        for key in keys:
            await asyncio.sleep(interval / min(len(keys), RESYNC_SIZE))
            refresh(key)


async def purge_deleted(
    cluster: Cluster,
    queue: WorkQueue[EndpointKey],
    stores: Mapping[str, Store],
    namespaces: Collection[str],
    relisted: asyncio.Event,
) -> None:
    """Remove deleted objects from the cache (`stores`, by kind), forever: after each restart of a watch, and regularly.

    kopf does not report objects that are missing in a later list. It also reports nothing when a watch begins
    with an empty list.
    """
    while True:
        objects = sum(len(store.names) for store in stores.values())
        with suppress(TimeoutError):
            async with asyncio.timeout(PURGE_INTERVAL * max(1.0, objects / PURGE_SIZE)):
                await relisted.wait()
            await asyncio.sleep(PURGE_DELAY)
        relisted.clear()
        for kind, store in stores.items():
            known = store.uids()  # before the list: an object created after it is then not taken for deleted
            try:
                existing = await cluster.list_uids(kind, namespaces)
            except ApiServerError as error:
                logger.warning("list of %s: %s", kind, error)
                relisted.set()
                break
            for name, uid in known.items():
                if existing.get(name) != uid and (key := store.drop(name, uid)):
                    queue.add(key)
