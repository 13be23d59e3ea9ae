"""Budgets that tenants share. A tenant is a namespace.

A tenant may use a share of the part that other tenants do not use. So no tenant can take all of a budget, and the limit
of a tenant depends on what the others use.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from weakref import WeakValueDictionary

from forebay_gateway.settings import MIB, Network

TEXT_OVERHEAD = 96
"""The most bytes that a text takes in addition to its characters, with its pointer in a list."""

UNCOUNTED_BYTES = 64 << 10
"""Bytes of a body, an output or an answer that are not counted, because every request has about as many in transit."""


@dataclass
class Quota:
    """A budget of bytes, requests or connections.

    Attributes:
        limit: the budget of all tenants together.
        share: the share that one tenant may use of the part that other tenants do not use; 1 if tenants need no
            protection.
        floor: the amount that each tenant may always use.
    """

    limit: int
    share: float = 0.5
    floor: int = 0
    used: int = 0
    freed: set[asyncio.Event] = field(default_factory=set)
    """Set when something becomes free."""
    _by_tenant: dict[Hashable, int] = field(default_factory=dict)

    @property
    def max_per_tenant(self) -> int:
        """The most that one tenant may use while no other tenant uses anything."""
        return max(self.floor, int(self.share * self.limit))

    def try_acquire(self, tenant: Hashable, size: int = 1) -> bool:
        """Count `size` more for the tenant if there is room. Returns whether there was room. There is always room for a
        negative size."""
        if size > 0 and not self.has_room(tenant, size):
            return False
        self._count(tenant, self._by_tenant.get(tenant, 0) + size)
        return True

    def has_room(self, tenant: Hashable, size: int) -> bool:
        """Whether the tenant might use `size` more."""
        own = self._by_tenant.get(tenant, 0)
        return own + size <= max(self.floor, self.share * (self.limit - (self.used - own)))

    def release(self, tenant: Hashable, size: int = 1) -> None:
        """Free an amount that `try_acquire` has counted."""
        self._count(tenant, self._by_tenant.get(tenant, 0) - size)

    def _count(self, tenant: Hashable, own: int) -> None:
        more = own - self._by_tenant.get(tenant, 0)
        self.used += more
        if more < 0:
            for event in self.freed:
                event.set()
        if own:
            self._by_tenant[tenant] = own
        else:
            self._by_tenant.pop(tenant, None)


def memory_of(text: str) -> int:
    """The number of bytes that a text takes in memory, with its pointer in a list."""
    return sys.getsizeof(text) + 8


_WIDE, _WIDEST, _FOLLOWING = bytes(range(0xC4)), bytes(range(0xF0)), bytes(range(0x80, 0xC0))
"""Sets of UTF-8 bytes: bytes of characters that take one byte in memory, bytes of characters that take up to two, and
bytes that continue a character."""


def memory_of_utf8(data: bytes | bytearray | memoryview) -> int:
    """`memory_of` the decoded text, or a little more, without decoding it."""
    width, characters = 1, 0
    for start in range(0, len(data), MIB):
        piece = bytes(data[start : start + MIB])
        characters += len(piece.translate(None, _FOLLOWING))
        if width < 4 and not piece.isascii():
            width = 4 if piece.translate(None, _WIDEST) else 2 if piece.translate(None, _WIDE) else width
    return width * characters + TEXT_OVERHEAD


class Reservation:
    """The part of a budget that one task has taken for its tenant. It is freed when the context ends."""

    def __init__(self, shares: Quota, tenant: Hashable) -> None:
        self._shares = shares
        self._tenant = tenant
        self._size = 0

    def resize(self, size: int) -> bool:
        """Set the reserved size if there is room. Returns whether there was room."""
        if not self._shares.try_acquire(self._tenant, size - self._size):
            return False
        self._size = size
        return True

    def move(self, tenant: Hashable) -> bool:
        """Count the reservation for another tenant if there is room. Returns whether there was room."""
        self._shares.release(self._tenant, self._size)
        if moved := self._shares.has_room(tenant, self._size):
            self._tenant = tenant
        self._shares.release(self._tenant, -self._size)
        return moved

    async def grow(self, size: int, seconds: float) -> bool:
        """Wait for room for up to `seconds`, then change the reserved size. Returns whether the size was changed."""
        freed = asyncio.Event()
        self._shares.freed.add(freed)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not self.resize(size):
                        freed.clear()
                        await freed.wait()
                    return True
            return False
        finally:
            self._shares.freed.discard(freed)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        self.resize(0)


class TenantLocks:
    """Locks for tasks that need much memory: each tenant runs one at a time."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def of(self, tenant: Hashable) -> asyncio.Lock:
        """The tenant's lock. Hold it during such a task."""
        return self._locks.setdefault(tenant, asyncio.Lock())


class SourceQuota:
    """Limits the connections without a valid key, both in total and for one source.

    A source is an IPv4 address, or an IPv6 network of 64 bits, because one machine may own all of it. Trusted proxies
    stand for many clients, so only the total limit applies to them.
    """

    def __init__(self, limit: int, per_source: int, trusted: Sequence[Network] = ()) -> None:
        self._limit = limit
        self._per_source = per_source
        self._trusted = trusted
        self._count = 0
        self._by_source: Counter[IPv4Address | IPv6Network] = Counter()

    def try_acquire(self, address: str) -> bool:
        """Count a connection from an address if there is room. Returns whether there was room."""
        source = self._source_of(address)
        if self._count >= self._limit or (source and self._by_source[source] >= self._per_source):
            return False
        self._count += 1
        if source:
            self._by_source[source] += 1
        return True

    def release(self, address: str) -> None:
        """Stop counting a connection: it has a valid key now, or is closed."""
        self._count -= 1
        if source := self._source_of(address):
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]

    def _source_of(self, address: str) -> IPv4Address | IPv6Network | None:
        """None for a trusted proxy."""
        parsed = ip_address(address.partition("%")[0])
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        if any(parsed in network for network in self._trusted):
            return None
        return parsed if isinstance(parsed, IPv4Address) else IPv6Network((parsed, 64), strict=False)
