"""Who takes keys from the queue, and who puts them in again from time to time."""

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
"""Endpoints that are reconciled at once."""

RESYNC_INTERVAL = 300.0
"""Seconds in which endpoints are looked at once without trust in the cache, as Secrets are not watched at all."""

RESYNC_SIZE = 150
"""Endpoints that are looked at so in one interval: each takes half a dozen requests, and all of them together less than
a hundredth of a core. Where there are more, a round takes several intervals: that of 5,000 endpoints 3 hours."""

PURGE_INTERVAL = 300.0
"""Seconds between two purges of a cache of up to PURGE_SIZE objects, when no watch was restarted."""

PURGE_SIZE = 2000
"""Of more objects the purges are as much rarer, since a list of all of them takes its time: together they stay below a
thousandth of a core."""

PURGE_DELAY = 1.0
"""Seconds from a watch that begins again until deleted objects are purged: other watches often do so too."""

UNCACHED_READ_INTERVAL = 2.0
"""Seconds between two readings of what there is, until all of it was seen."""


async def work_while_leading(
    candidate: Candidate, queue: WorkQueue[EndpointKey], works: Callable[[], Iterable[Coroutine[Any, Any, None]]]
) -> None:
    """Have `works` done for ever, but only while the lease is ours; without it all of them are cancelled at once."""
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
    """Reconcile what the queue brings. No failure stops the others. Each key that was worked on is put into `seen`."""
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
    """Wait until all that exists is in the cache (`stores`, by kind). `namespaces`: those watched; none for all."""
    for kind, store in stores.items():
        await wait_until_seen(cluster, kind, namespaces, store.names)


async def wait_until_seen(cluster: Cluster, kind: str, namespaces: Collection[str], seen: Set[EndpointKey]) -> None:
    """Wait until all objects of a kind that exist are among those that were seen, by namespace and name."""
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
    """Refresh all endpoints again and again, spread evenly over one interval (seconds) or several."""
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
    """Take deleted objects out of the cache (`stores`, by kind) for ever: whenever a watch was restarted, and from
    time to time.

    kopf does not miss objects that are not in a later list, and a watch that lists none tells nobody that it began.
    """
    while True:
        objects = sum(len(store.names) for store in stores.values())
        with suppress(TimeoutError):
            async with asyncio.timeout(PURGE_INTERVAL * max(1.0, objects / PURGE_SIZE)):
                await relisted.wait()
            await asyncio.sleep(PURGE_DELAY)
        relisted.clear()
        for kind, store in stores.items():
            known = store.uids()  # before the list, so that what is made meanwhile is not missed in it
            try:
                living = await cluster.list_uids(kind, namespaces)
            except ApiServerError as error:
                logger.warning("list of %s: %s", kind, error)
                relisted.set()
                break
            for name, uid in known.items():
                if living.get(name) != uid and (key := store.drop(name, uid)):
                    queue.add(key)
