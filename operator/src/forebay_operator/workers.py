"""Who takes keys from the queue, and who puts them in again from time to time."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Set
from contextlib import suppress
from typing import Any

from forebay_operator.api import ApiError
from forebay_operator.cache import Cache, Key
from forebay_operator.cluster import Cluster
from forebay_operator.lease import Candidate
from forebay_operator.metrics import LEADER, RECONCILE_SECONDS
from forebay_operator.names import KIND
from forebay_operator.queue import WorkQueue
from forebay_operator.reconcile import Reconciler

logger = logging.getLogger(__name__)

WORKERS = 4
"""Endpoints that are reconciled at once."""

RESYNC_INTERVAL = 300.0
"""Seconds in which every endpoint is looked at once without trust in the cache.

A watch that the API server cut may have missed a deletion, and Secrets are not watched at all.
"""


SWEEP_INTERVAL = 300.0
"""Seconds between two sweeps of the cache when no watch is known to have begun anew."""

SWEEP_DELAY = 1.0
"""Seconds from a watch that begins anew to the sweep; the watches of other kinds often do so too."""

FIRST_PASS_INTERVAL = 2.0
"""Seconds between two looks whether the first pass over all endpoints is over."""


async def work_while_leading(
    candidate: Candidate, queue: WorkQueue[Key], works: Callable[[], Iterable[Coroutine[Any, Any, None]]]
) -> None:
    """Have `works` done for ever, but only while the lease is ours; without it all of them are cancelled at once."""
    while True:
        await candidate.wait_until(holds=True)
        LEADER.set(1)
        queue.retry_now()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each) for each in works()]
                await candidate.wait_until(holds=False)
                for task in tasks:
                    task.cancel()
        finally:
            LEADER.set(0)


async def work(queue: WorkQueue[Key], reconciler: Reconciler, unsure: set[Key], seen: set[Key]) -> None:
    """Reconcile what the queue brings, for ever; a key among the unsure is read live. No failure stops the others.

    Each key that was worked on is put into `seen`.
    """
    while True:
        key = await queue.get()
        live, result, began = key in unsure, "error", time.monotonic()
        try:
            result = "done" if await reconciler.reconcile(key, live) else "retry"
            if result == "done":
                unsure.discard(key)
        except ApiError as error:
            logger.warning("endpoint %s/%s: %s", *key, error)
        except Exception:
            logger.exception("endpoint %s/%s: reconcile failed", *key)
        finally:
            seen.add(key)
            RECONCILE_SECONDS.labels(result).observe(time.monotonic() - began)
            delay = queue.done(key, failed=result != "done")
        if delay:
            logger.debug("endpoint %s/%s: again in %.1f s", *key, delay)


async def wait_for_first_pass(cluster: Cluster, namespaces: Collection[str], seen: Set[Key]) -> None:
    """Wait until every endpoint that exists was reconciled once. `namespaces`: those that are watched; none for all."""
    over = await _all_seen(cluster, namespaces, seen)
    while not over:
        await asyncio.sleep(FIRST_PASS_INTERVAL)
        over = await _all_seen(cluster, namespaces, seen)


async def _all_seen(cluster: Cluster, namespaces: Collection[str], seen: Set[Key]) -> bool:
    try:
        return await cluster.list_endpoints(namespaces) <= seen
    except ApiError as error:
        logger.warning("list of endpoints: %s", error)
        return False


async def resync(queue: WorkQueue[Key], cache: Cache, unsure: set[Key], interval: float = RESYNC_INTERVAL) -> None:
    """Go round all endpoints for ever, evenly spread over the interval (seconds)."""
    while True:
        keys = list(cache.endpoints)
        if not keys:
            await asyncio.sleep(interval)
        for key in keys:
            await asyncio.sleep(interval / len(keys))
            unsure.add(key)
            queue.add(key)


async def sweep(
    cluster: Cluster, queue: WorkQueue[Key], cache: Cache, namespaces: Collection[str], begun_anew: asyncio.Event
) -> None:
    """Take deleted objects out of the cache for ever: whenever a watch has begun anew, and from time to time.

    kopf does not miss objects that are not in a later list, and a watch that lists none tells nobody that it began.
    """
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(begun_anew.wait(), SWEEP_INTERVAL)
            await asyncio.sleep(SWEEP_DELAY)
        begun_anew.clear()
        for kind in (KIND, "Deployment", "Service", "Pod"):
            known = cache.uids(kind)  # before the list, so that what is made meanwhile is not missed in it
            try:
                living = await cluster.list_uids(kind, namespaces)
            except ApiError as error:
                logger.warning("list of %s: %s", kind, error)
                begun_anew.set()
                break
            for uid in known.keys() - living - cache.gone:
                cache.gone.add(uid)
                queue.add(known[uid])
