"""Who takes keys from the queue, and who puts them in again from time to time."""

import asyncio
import logging

from forebay_operator.cache import Cache, Key
from forebay_operator.cluster import ApiError
from forebay_operator.queue import WorkQueue
from forebay_operator.reconcile import Reconciler

logger = logging.getLogger(__name__)

WORKERS = 4
"""Endpoints that are reconciled at once."""

RESYNC_INTERVAL = 300.0
"""Seconds in which every endpoint is looked at once without trust in the cache.

A watch that the API server cut may have missed a deletion, and Secrets are not watched at all.
"""


async def work(queue: WorkQueue[Key], reconciler: Reconciler, unsure: set[Key]) -> None:
    """Reconcile what the queue brings, for ever; a key among the unsure is read live. No failure stops the others."""
    while True:
        key = await queue.get()
        live, done = key in unsure, False
        try:
            done = await reconciler.reconcile(key, live)
            if done:
                unsure.discard(key)
        except ApiError as error:
            logger.warning("endpoint %s/%s: %s", *key, error)
        except Exception:
            logger.exception("endpoint %s/%s: reconcile failed", *key)
        finally:
            delay = queue.done(key, failed=not done)
        if delay:
            logger.debug("endpoint %s/%s: again in %.1f s", *key, delay)


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
