"""The interface of document stores, and the one in memory. A document belongs to an endpoint, with a kind and a name.

Documents hold files, batches and their results. valkey_documents.py has the store for several gateways.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from forebay_gateway.fairness.quotas import Quota, memory_of
from forebay_gateway.jobs.store import Full
from forebay_kube.endpoint_key import EndpointKey

DOCUMENT_OVERHEAD = 400
"""Bytes of memory that a document takes in addition to its text."""

STORED, PROGRESS = "stored", "progress"
"""Kinds of documents that list objects in the bucket: the parts of a file, and the parts of a running batch's
results."""

BUCKET_KINDS = frozenset({STORED, PROGRESS})
"""Kinds whose text and objects use the bucket's budget. documents.lua lists these kinds too."""


class DocumentStore(ABC):
    """A store of documents. Every method may raise Unavailable."""

    @abstractmethod
    async def put(
        self,
        key: EndpointKey,
        kind: str,
        name: str,
        text: str,
        seconds: float,
        *,
        bounded: bool = True,
        objects_size: int = 0,
        lease: str = "",
    ) -> None:
        """Store a document for `seconds`, in place of a document of the same name.

        Raises Full if `bounded` is true and there is no room.

        Args:
            objects_size: the bytes of the objects that the document lists. They use the budget in addition to its text.
            lease: the name of a lease that this gateway must still hold. Raises Lost if it does not.
        """

    @abstractmethod
    async def get(self, key: EndpointKey, kind: str, name: str) -> str | None:
        """The document, or None."""

    @abstractmethod
    async def all(self, key: EndpointKey, kind: str) -> Mapping[str, str]:
        """All documents of a kind, by name."""

    @abstractmethod
    async def delete(self, key: EndpointKey, kind: str, name: str) -> bool:
        """Delete a document. Returns whether it existed."""

    @abstractmethod
    async def discard(self, key: EndpointKey, kind: str, names: Sequence[str]) -> None:
        """Delete documents of a kind, whether they exist or not."""

    @abstractmethod
    async def clear(self, key: EndpointKey, kind: str = "") -> None:
        """Delete all documents of a kind, or of all kinds."""

    @abstractmethod
    async def lease(self, name: str, seconds: float) -> bool:
        """Take or renew a lease for `seconds`. Returns whether this gateway holds it now."""

    @abstractmethod
    async def expire_documents(self) -> None:
        """Delete expired documents, unless the store expires them itself. Call it regularly."""


def size_of(text: str) -> int:
    """The bytes of the budget that a document uses: its size in the memory of a gateway that reads it."""
    return memory_of(text) + DOCUMENT_OVERHEAD


class MemoryDocumentStore(DocumentStore):
    """Documents in the memory of one gateway.

    `max_bytes` bounds all documents together, and `bucket_bytes` the objects that they list. A namespace may use
    `share` of the bytes that other namespaces do not use (quotas.Quota).
    """

    def __init__(self, max_bytes: int, share: float = 0.5, bucket_bytes: int = 0) -> None:
        self._bytes = Quota(max_bytes, share)
        self._bucket_bytes = Quota(bucket_bytes, share)
        self._sizes: dict[tuple[EndpointKey, str, str], int] = {}
        self._documents: dict[tuple[EndpointKey, str], dict[str, str]] = {}
        self._expiries: dict[tuple[EndpointKey, str, str], asyncio.TimerHandle] = {}

    async def put(
        self,
        key: EndpointKey,
        kind: str,
        name: str,
        text: str,
        seconds: float,
        *,
        bounded: bool = True,
        objects_size: int = 0,
        lease: str = "",
    ) -> None:
        new = size_of(text) + objects_size
        more = new - self._sizes.get((key, kind, name), 0)
        if not bounded:
            self._quota(kind).release(key[0], -more)
        elif not self._quota(kind).try_acquire(key[0], more):
            raise Full
        self._sizes[key, kind, name] = new
        self._documents.setdefault((key, kind), {})[name] = text
        self._cancel_expiry(key, kind, name)
        later = asyncio.get_running_loop().call_later
        self._expiries[key, kind, name] = later(seconds, self._drop, key, kind, name)

    async def get(self, key: EndpointKey, kind: str, name: str) -> str | None:
        return self._documents.get((key, kind), {}).get(name)

    async def all(self, key: EndpointKey, kind: str) -> Mapping[str, str]:
        return dict(self._documents.get((key, kind), {}))

    async def delete(self, key: EndpointKey, kind: str, name: str) -> bool:
        return self._drop(key, kind, name)

    async def discard(self, key: EndpointKey, kind: str, names: Sequence[str]) -> None:
        for name in names:
            self._drop(key, kind, name)

    async def clear(self, key: EndpointKey, kind: str = "") -> None:
        for place in [place for place in self._documents if place[0] == key and kind in ("", place[1])]:
            for name in list(self._documents[place]):
                self._drop(*place, name)

    async def lease(self, name: str, seconds: float) -> bool:
        return True

    async def expire_documents(self) -> None:
        return

    def _drop(self, key: EndpointKey, kind: str, name: str) -> bool:
        self._cancel_expiry(key, kind, name)
        place = self._documents.get((key, kind), {})
        if name not in place:
            return False
        del place[name]
        self._quota(kind).release(key[0], self._sizes.pop((key, kind, name)))
        if not place:
            del self._documents[key, kind]
        return True

    def _quota(self, kind: str) -> Quota:
        return self._bucket_bytes if kind in BUCKET_KINDS else self._bytes

    def _cancel_expiry(self, key: EndpointKey, kind: str, name: str) -> None:
        if timer := self._expiries.pop((key, kind, name), None):
            timer.cancel()
