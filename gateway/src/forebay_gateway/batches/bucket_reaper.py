"""Deletes objects in the bucket that belong to no file. Expired files, deleted endpoints and dead gateways leave such
objects.

The job services run it. A lease lets one gateway at a time delete objects.
"""

import asyncio
import json
import logging
import time

from forebay_gateway.batches.bucket import Bucket
from forebay_gateway.batches.bucket_results import read_progress
from forebay_gateway.batches.contents import FILES_FOLDER, parse_parts
from forebay_gateway.batches.document_store import PROGRESS, STORED, DocumentStore
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.results import batch_of_file
from forebay_gateway.jobs.store import Unavailable
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)

REAP_INTERVAL = 3600.0
"""Seconds between two passes over all objects."""

REAP_MARGIN = 3600.0
"""Seconds that are added to the time of the longest upload. Only older objects without a file are deleted, because
clocks differ and the store may answer late."""

REAPED_AT_ONCE = 100


async def reap_forever(files: FileStore, bucket: Bucket, upload_seconds: float) -> None:
    """Reap immediately and then regularly, until cancelled. `upload_seconds` is the maximum time of an upload."""
    while True:
        try:
            if await files.documents.lease("reap-bucket", 2 * REAP_INTERVAL):
                await reap(files.documents, bucket, time.time(), upload_seconds + REAP_MARGIN)
        except Unavailable:
            logger.info("objects that belong to no file stay in the bucket for now")
        except Exception:
            logger.exception("could not reap the objects in the bucket")
        await asyncio.sleep(REAP_INTERVAL)


async def reap(documents: DocumentStore, bucket: Bucket, now: float, after: float) -> int:
    """Delete objects without a file that are older than `after` seconds. Returns the number of deleted objects. Raises
    Unavailable."""
    count, orphans, folder = 0, list[str](), ""
    parts: frozenset[str] = frozenset()
    async for each in bucket.objects(FILES_FOLDER):
        place = each.name.split("/")
        if len(place) != 5 or now - each.written.timestamp() < after:
            continue
        _, namespace, endpoint, file_id, part = place
        if folder != f"{namespace}/{endpoint}/{file_id}":
            folder = f"{namespace}/{endpoint}/{file_id}"
            parts = await _known_parts(documents, (namespace, endpoint), file_id)
        if part not in parts:
            orphans.append(each.name)
        if len(orphans) == REAPED_AT_ONCE:
            count += len(orphans)
            await bucket.delete(orphans)
            orphans.clear()
    await bucket.delete(orphans)
    return count + len(orphans)


async def _known_parts(documents: DocumentStore, key: EndpointKey, file_id: str) -> frozenset[str]:
    """The parts of a file, or of the results of a running batch.

    The progress of the batch is read first, because the file is stored later.
    """
    progress = await documents.get(key, PROGRESS, batch_of_file(file_id))
    stored = await documents.get(key, STORED, file_id)
    parts = parse_parts(json.loads(stored)) if stored else []
    if progress:
        parts += [part for result_parts in read_progress(progress, 0).parts.values() for part in result_parts]
    return frozenset(part.name for part in parts)
