"""The behaviour that both document stores of files and batches share. Valkey is a real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from forebay_gateway.batches.document_store import PROGRESS, STORED, DocumentStore
from forebay_gateway.batches.valkey_documents import ValkeyDocumentStore
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_gateway.jobs.store import Full
from tests.integration.document_stores import DOCUMENT_STORES, empty_documents
from tests.integration.valkey_process import ValkeyServer

KEY, OTHER = ("home", "one"), ("home", "two")
DOCUMENTS_BYTES = 10_000
MARGIN = 500
"""More than a document counts besides its text in either."""


@pytest.fixture(params=DOCUMENT_STORES)
async def documents(request: pytest.FixtureRequest, valkey_server: ValkeyServer) -> AsyncIterator[DocumentStore]:
    async with empty_documents(request.param, valkey_server, DOCUMENTS_BYTES) as store:
        yield store


async def test_documents_are_stored_by_endpoint_and_kind(documents: DocumentStore) -> None:
    await documents.put(KEY, "file", "a b", "one", 60)
    await documents.put(KEY, "file", "c", "two", 60)
    await documents.put(KEY, "batch", "c", "three", 60)
    await documents.put(KEY, "file", "c", "another", 60)
    assert await documents.all(KEY, "file") == {"a b": "one", "c": "another"}
    assert (await documents.get(KEY, "batch", "c"), await documents.get(OTHER, "file", "c")) == ("three", None)
    assert [await documents.delete(KEY, "file", "a b") for _ in range(2)] == [True, False]
    await documents.clear(KEY, "file")
    assert (await documents.all(KEY, "file"), await documents.get(KEY, "batch", "c")) == ({}, "three")
    await documents.put(OTHER, "file", "c", "kept", 60)
    await documents.clear(KEY)
    assert (await documents.get(KEY, "batch", "c"), await documents.get(OTHER, "file", "c")) == (None, "kept")


async def test_the_memory_of_documents_is_bounded_and_released(documents: DocumentStore) -> None:
    for _ in range(3):
        await documents.put(KEY, "file", "a", "x" * (DOCUMENTS_BYTES - 2 * MARGIN), 60)
    await documents.put(KEY, "file", "b", "", 60)
    with pytest.raises(Full):
        await documents.put(KEY, "file", "b", "x" * 2 * MARGIN, 60)
    await documents.delete(KEY, "file", "a")
    await documents.clear(KEY)
    await documents.put(KEY, "file", "a", "x" * (DOCUMENTS_BYTES - MARGIN), 60)


async def test_bytes_in_the_bucket_have_a_separate_limit(documents: DocumentStore) -> None:
    await documents.put(KEY, "content", "a", "x" * (DOCUMENTS_BYTES - MARGIN), 60)
    for text in ("parts", "more parts"):
        await documents.put(KEY, STORED, "a", text, 60, objects_size=DOCUMENTS_BYTES - MARGIN)
    with pytest.raises(Full):
        await documents.put(KEY, PROGRESS, "b", "", 60, objects_size=MARGIN)
    await documents.put(KEY, PROGRESS, "b", "", 60, objects_size=MARGIN, bounded=False)
    await documents.delete(KEY, STORED, "a")
    await documents.clear(KEY)
    await documents.put(KEY, STORED, "a", "parts", 60, objects_size=DOCUMENTS_BYTES - MARGIN)
    assert await documents.get(KEY, STORED, "a") == "parts"
    with pytest.raises(Full):
        await documents.put(KEY, STORED, "b", "x" * DOCUMENTS_BYTES, 60)  # the documents about them count too


async def test_some_documents_are_discarded(documents: DocumentStore) -> None:
    for number in range(1200):
        await documents.put(KEY, "results", str(number), "", 60, bounded=False)
    await documents.discard(KEY, "results", [*map(str, range(1199)), "none"])
    assert await documents.all(KEY, "results") == {"1199": ""}


async def test_a_document_counts_as_its_size_in_memory(documents: DocumentStore) -> None:
    """One character that is far from ASCII makes all the others take four bytes."""
    text = "x" * (DOCUMENTS_BYTES // 3)
    await documents.put(KEY, "file", "a", text, 60)
    with pytest.raises(Full):
        await documents.put(KEY, "file", "a", text + "🌊", 60)
    await documents.delete(KEY, "file", "a")
    await documents.put(KEY, "file", "a", "x" * (DOCUMENTS_BYTES // 5) + "🌊", 60)
    await documents.delete(KEY, "file", "a")
    await documents.put(KEY, "file", "a", "x" * (DOCUMENTS_BYTES - MARGIN), 60)


async def test_every_document_expires(documents: DocumentStore) -> None:
    await documents.put(KEY, "file", "a", "x", 0.05)
    await documents.put(KEY, "file", "b", "x", 60)
    async with asyncio.timeout(5):
        while True:
            await documents.expire_documents()
            if await documents.all(KEY, "file") == {"b": "x"}:
                break
            await asyncio.sleep(0.02)


async def test_only_one_gateway_has_a_lease_until_it_expires(valkey_server: ValkeyServer) -> None:
    client = connect_valkey(valkey_server.url)
    one, two = (
        ValkeyDocumentStore(client, DOCUMENTS_BYTES, share=1.0),
        ValkeyDocumentStore(client, DOCUMENTS_BYTES, share=1.0),
    )
    assert [await one.lease("batch", 1), await two.lease("batch", 1), await one.lease("batch", 0.3)] == [
        True,
        False,
        True,
    ]
    async with asyncio.timeout(5):
        while not await two.lease("batch", 1):  # noqa: ASYNC110  a lease ends by time
            await asyncio.sleep(0.02)
    assert not await one.lease("batch", 1)
    await client.flushall()
    await client.aclose()
