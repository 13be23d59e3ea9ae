"""Leader election by a Lease: of any number of operators one works, the others stand by.

The rules are client-go's (https://pkg.go.dev/k8s.io/client-go/tools/leaderelection): a candidate never compares clocks
with the holder. It takes a Lease that it has seen unchanged for as long as the Lease says, by its own clock; and the
holder rests before that time is over when it cannot renew. Unlike client-go's it does not end then: when the API server
is away for all, whoever held the Lease before is as good as any other.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from forebay_kube.api_client import ApiServerError
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.spec import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTimings:
    """How long what lasts, in seconds.

    Attributes:
        duration: a Lease that was not renewed for so long may be taken.
        renew_deadline: a holder that could not renew for so long rests; shorter than `duration`.
        retry: between two looks at the Lease.
    """

    duration: float = 10
    renew_deadline: float = 7
    retry: float = 2


@dataclass(frozen=True)
class ObservedLease:
    """When a Lease was first seen as it is, by our own monotonic clock."""

    spec: Manifest
    at: float


def may_take(observed_lease: ObservedLease, identity: str, now: float) -> bool:
    """Whether `identity` may write itself into a Lease that exists: it is free, its own, or its holder is gone."""
    spec = observed_lease.spec
    holder = spec.get("holderIdentity")
    return not holder or holder == identity or now - observed_lease.at > spec.get("leaseDurationSeconds", 0)


def next_spec(spec: Manifest, identity: str, terms: LeaseTimings, now: datetime) -> Manifest:
    """The Lease as `identity` writes it, after `spec`; the number of transitions grows when the holder changes."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    held = spec.get("holderIdentity") == identity
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(terms.duration),
        "acquireTime": spec["acquireTime"] if held else stamp,
        "renewTime": stamp,
        "leaseTransitions": spec.get("leaseTransitions", 0) + (not held and bool(spec)),
    }


class Candidate:
    """One operator that wants the Lease `name`, under an `identity` that no other has."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        terms: LeaseTimings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.is_leader = self.lost = False
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._terms = terms or LeaseTimings()
        self._clock = clock
        self._sighting: ObservedLease | None = None
        self._released = False
        self._turned = asyncio.Condition()

    async def acquire(self) -> None:
        """Stand by until the Lease is ours."""
        taken = await self._try()
        while not taken:
            await asyncio.sleep(self._terms.retry)
            taken = await self._try()
        await self._set_leader(True)
        logger.info("%s holds the lease %s/%s", self.identity, self._namespace, self._name)

    async def keep(self) -> None:
        """Renew the Lease for ever. Returns when it is lost: whoever holds it now works, so we must not.

        While it cannot be renewed, as the API server does not answer, `is_leader` is False from the deadline on. It is
        True again once it can, unless another took it meanwhile.
        """
        renewed = self._clock()
        while True:
            await asyncio.sleep(self._terms.retry)
            left = self._terms.renew_deadline - (self._clock() - renewed)
            try:
                async with asyncio.timeout(left if self.is_leader else self._terms.renew_deadline):
                    kept = await self._try()
            except TimeoutError:
                kept = False
            if self._released:
                return
            if kept:
                renewed = self._clock()
            elif self._sighting and self._sighting.spec.get("holderIdentity") not in (None, "", self.identity):
                break
            is_leader = self._clock() - renewed < self._terms.renew_deadline
            if is_leader != self.is_leader:
                words = "is renewed again" if is_leader else "cannot be renewed; all work is paused until it can"
                logger.warning("the lease %s/%s %s", self._namespace, self._name, words)
                await self._set_leader(is_leader)
        await self._set_leader(False)
        self.lost = True
        logger.error("%s lost the lease %s/%s", self.identity, self._namespace, self._name)

    async def wait_until(self, is_leader: bool) -> None:
        """Wait until the Lease is ours, or until it is not."""
        async with self._turned:
            await self._turned.wait_for(lambda: self.is_leader == is_leader)

    async def release(self) -> None:
        """Hand the Lease over at once, if it is ours still. When that fails, it ends by itself."""
        if self._released or not self.is_leader:
            return
        self._released = True
        try:
            async with asyncio.timeout(self._terms.retry):
                await self._free()
        except (ApiServerError, TimeoutError) as error:
            logger.warning("the lease %s/%s could not be released: %r", self._namespace, self._name, error)

    async def _free(self) -> None:
        lease = await self._cluster.get("Lease", self._namespace, self._name)
        if not lease or lease["spec"].get("holderIdentity") != self.identity:
            return
        freed = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._cluster.replace({**lease, "spec": freed})
        except ApiServerError as error:
            if error.status != 409:  # else it was just being renewed
                raise
            await self._free()
        else:
            logger.info("%s released the lease %s/%s", self.identity, self._namespace, self._name)

    async def _set_leader(self, is_leader: bool) -> None:
        async with self._turned:
            self.is_leader = is_leader
            self._turned.notify_all()

    async def _try(self) -> bool:
        """Take or renew the Lease; whether it is ours now."""
        if self._released:
            return False
        try:
            lease = await self._cluster.get("Lease", self._namespace, self._name)
            spec = (lease or {}).get("spec") or {}
            if self._sighting is None or self._sighting.spec != spec:
                self._sighting = ObservedLease(spec, self._clock())
            if lease and not may_take(self._sighting, self.identity, self._clock()):
                return False
            wanted = next_spec(spec, self.identity, self._terms, datetime.now(UTC))
            if lease is None:
                metadata = {"name": self._name, "namespace": self._namespace}
                kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
                return await self._cluster.create({**kind, "metadata": metadata, "spec": wanted}) is not None
            written = await self._cluster.replace({**lease, "spec": wanted})
            self._sighting = ObservedLease(written["spec"], self._clock())
        except ApiServerError as error:
            logger.warning("lease %s/%s: %s", self._namespace, self._name, error)
            return False
        return True
