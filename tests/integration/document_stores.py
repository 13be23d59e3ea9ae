"""Both stores of documents, each empty."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from forebay_gateway.batches.document_store import DocumentStore, MemoryDocumentStore
from forebay_gateway.batches.valkey_documents import ValkeyDocumentStore
from forebay_gateway.jobs.scripts import connect_valkey
from tests.integration.valkey_process import ValkeyServer

DOCUMENT_STORES = ("memory", "valkey")


@asynccontextmanager
async def empty_documents(kind: str, server: ValkeyServer, most: int) -> AsyncIterator[DocumentStore]:
    """A store of a kind in DOCUMENT_STORES for so many bytes, and as many of objects, which one namespace may fill."""
    if kind == "memory":
        yield MemoryDocumentStore(most, share=1.0, bucket_bytes=most)
        return
    client = connect_valkey(server.url)
    await client.flushall()  # other files' gateways leave jobs in it, which count
    yield ValkeyDocumentStore(client, most, share=1.0, bucket_bytes=most)
    await client.flushall()
    await client.aclose()
