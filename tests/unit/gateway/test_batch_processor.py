"""How many batches run at once, and what becomes of those that wait."""

import json

import pytest

from forebay_gateway.batches import objects, processor
from forebay_gateway.batches.document_store import MemoryDocumentStore
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.processor import BATCHES_AT_ONCE, BatchProcessor
from forebay_gateway.fairness.pacing import FairScheduler
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_kube.endpoint_key import EndpointKey
from tests.waiting import until

COMPLETIONS = "/v1/completions"
LINE = json.dumps({"custom_id": "a", "method": "POST", "url": COMPLETIONS, "body": {"prompt": "x"}})


async def submit(documents: MemoryDocumentStore, works: BatchProcessor, key: EndpointKey, count: int) -> list[str]:
    """Batches of one request each, which no pod answers."""
    await documents.put(key, "content", "file-x", LINE, 60)
    batches = [objects.new_batch(COMPLETIONS, "file-x", None, 2e9) for _ in range(count)]
    for each in batches:
        await works.submit(key, each, "key")
    return [each["id"] for each in batches]


async def test_one_endpoint_leaves_places_to_others_and_what_waits_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "BATCH_POLL_INTERVAL", 0.02)
    documents, store = MemoryDocumentStore(1 << 20), MemoryJobStore(1 << 20)
    many, few = ("team", "many"), ("team", "few")
    async with BatchProcessor(FileStore(documents), store, KeyCipher(lambda: b"secret"), FairScheduler()) as works:
        ids = await submit(documents, works, many, BATCHES_AT_ONCE)
        await until(lambda: len(works._tasks) == BATCHES_AT_ONCE // 2)
        await submit(documents, works, few, 1)
        await until(lambda: works._running[few] == 1)
        assert works._running[many] == BATCHES_AT_ONCE // 2
        waiting = next(each for each in ids if each not in works._tasks)
        await documents.put(many, "cancel", waiting, "1", 60)

        def status() -> str:
            return str(json.loads(documents._documents[many, "batch"][waiting])["status"])

        await until(lambda: status() == "cancelled")
    for key in (many, few, processor.ALL_ENDPOINTS):
        await documents.clear(key)
        await store.forget(key)
