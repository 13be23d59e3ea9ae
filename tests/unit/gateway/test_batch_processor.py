"""How many batches run at once, and what becomes of those that wait."""

import json
import time

import pytest

from forebay_gateway.batches import objects, processor
from forebay_gateway.batches.document_store import PROGRESS, STORED, MemoryDocumentStore
from forebay_gateway.batches.file_store import FileStore
from forebay_gateway.batches.input_files import InputFiles
from forebay_gateway.batches.processor import BATCHES_AT_ONCE, BatchProcessor
from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.store import Unavailable
from forebay_kube.endpoint_key import EndpointKey
from tests.waiting import until

COMPLETIONS = "/v1/completions"
LINE = json.dumps({"custom_id": "a", "method": "POST", "url": COMPLETIONS, "body": {"prompt": "x"}})


def build(documents: MemoryDocumentStore, store: MemoryJobStore) -> BatchProcessor:
    return BatchProcessor(FileStore(documents), store, KeyCipher(lambda: b"secret"), FairScheduler(), Quota(1 << 20))


async def submit(documents: MemoryDocumentStore, works: BatchProcessor, key: EndpointKey, count: int) -> list[str]:
    """Batches of one request each, which no pod answers."""
    await documents.put(key, "content", "file-x", LINE, 60)
    batches = [objects.new_batch(COMPLETIONS, "file-x", None, 2e9) for _ in range(count)]
    for each in batches:
        await works.submit(key, each, "key")
    return [each["id"] for each in batches]


async def test_one_endpoint_cannot_use_all_slots_and_waiting_batches_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "BATCH_POLL_INTERVAL", 0.02)
    documents, store = MemoryDocumentStore(1 << 20), MemoryJobStore(1 << 20)
    many, few = ("team", "many"), ("team", "few")
    async with BatchProcessor(
        FileStore(documents), store, KeyCipher(lambda: b"secret"), FairScheduler(), Quota(1 << 20)
    ) as works:
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


def status_of(documents: MemoryDocumentStore, key: EndpointKey, batch_id: str) -> str:
    return str(json.loads(documents._documents[key, "batch"][batch_id])["status"])


@pytest.mark.parametrize("kind", [STORED, PROGRESS])
async def test_a_batch_with_objects_in_the_bucket_needs_a_gateway_with_a_bucket(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Until the batch expires."""
    monkeypatch.setattr(processor, "BATCH_POLL_INTERVAL", 0.02)
    documents, store, key = MemoryDocumentStore(1 << 20, bucket_bytes=1 << 20), MemoryJobStore(1 << 20), ("team", "one")
    leases: list[float] = []

    async def lease(name: str, seconds: float) -> bool:
        leases.append(seconds)
        return True

    monkeypatch.setattr(documents, "lease", lease)
    works = build(documents, store)
    (batch_id,) = await submit(documents, works, key, 1)
    await documents.put(key, kind, "file-x" if kind == STORED else batch_id, "[]", 60)
    async with works:
        await until(lambda: len(leases) > 6)
        assert status_of(documents, key, batch_id) == "validating"
        assert set(leases[1::2]) == {processor.RETURNED_LEASE}, "another gateway may have it immediately"
        batch = json.loads(await documents.get(key, "batch", batch_id) or "") | {"expires_at": 0}
        await documents.put(key, "batch", batch_id, json.dumps(batch), 60)
        await until(lambda: status_of(documents, key, batch_id) == "failed")
        await until(lambda: not works._tasks)
    assert await documents.get(key, PROGRESS, batch_id) is None
    for each in (key, processor.ALL_ENDPOINTS):
        await documents.clear(each)


async def test_a_batch_whose_store_does_not_answer_is_retried_with_backoff(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "BATCH_POLL_INTERVAL", 0.01)
    monkeypatch.setattr(processor, "MIN_BATCH_RETRY_DELAY", 0.1)
    documents, key, begun = MemoryDocumentStore(1 << 20), ("team", "one"), list[float]()

    async def read(*_: object, **__: object) -> None:
        begun.append(time.monotonic())
        raise Unavailable

    monkeypatch.setattr(InputFiles, "read", read)
    async with build(documents, MemoryJobStore(1 << 20)) as works:
        await submit(documents, works, key, 1)
        await until(lambda: len(begun) == 3)
    assert begun[1] - begun[0] >= 0.1
    assert begun[2] - begun[1] >= 0.2
    for each in (key, processor.ALL_ENDPOINTS):
        await documents.clear(each)


async def test_the_number_of_batches_of_all_namespaces_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "BATCH_POLL_INTERVAL", 0.02)
    documents, store = MemoryDocumentStore(8 << 20), MemoryJobStore(8 << 20)
    keys = [(f"team-{number}", name) for number in range(4) for name in ("one", "two")]
    async with build(documents, store) as works:
        for key in keys:
            await submit(documents, works, key, BATCHES_AT_ONCE // 2)
        await until(lambda: len({key[0] for key in works._running}) == 4)
        assert len(works._tasks) <= processor.MAX_RUNNING_BATCHES
    for key in (*keys, processor.ALL_ENDPOINTS):
        await documents.clear(key)
        await store.forget(key)
