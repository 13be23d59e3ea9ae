"""Leader election by a Lease: one operator works, the others stand by. `app` calls it.

The rules are client-go's (https://pkg.go.dev/k8s.io/client-go/tools/leaderelection). A candidate never compares clocks
with the holder. It takes a Lease that did not change for the Lease's duration, which the candidate measures by its own
clock. A holder that cannot renew pauses before this time is over. Unlike client-go's holder it does not exit: while the
API server answers no candidate, the former holder is as good as any other candidate.
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
    """The timings of the lease in seconds, as in client-go's LeaderElectionConfig.

    Attributes:
        duration: another candidate may take a Lease that was not renewed for this time.
        renew_deadline: the holder pauses if it could not renew for this time; shorter than `duration`.
        retry: the time between two reads of the Lease.
    """

    duration: float = 10
    renew_deadline: float = 7
    retry: float = 2


@dataclass(frozen=True)
class ObservedLease:
    """A Lease, and the time at which this process first saw the Lease in this form, by its monotonic clock."""

    spec: Manifest
    at: float


def may_acquire(observed_lease: ObservedLease, identity: str, now: float) -> bool:
    """Whether `identity` may take an existing Lease: it is free, already its own, or it has expired."""
    spec = observed_lease.spec
    holder = spec.get("holderIdentity")
    return not holder or holder == identity or now - observed_lease.at > spec.get("leaseDurationSeconds", 0)


def next_spec(spec: Manifest, identity: str, timings: LeaseTimings, now: datetime) -> Manifest:
    """The spec that `identity` writes to take or renew a Lease, which has `spec` now.

    A new holder increases leaseTransitions.
    """
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    held = spec.get("holderIdentity") == identity
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(timings.duration),
        "acquireTime": spec["acquireTime"] if held else stamp,
        "renewTime": stamp,
        "leaseTransitions": spec.get("leaseTransitions", 0) + (not held and bool(spec)),
    }


class Candidate:
    """One operator that wants the Lease `name`. Its `identity` is unique."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        timings: LeaseTimings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.identity = identity
        self.is_leader = self.lost = False
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._timings = timings or LeaseTimings()
        self._clock = clock
        self._observed_lease: ObservedLease | None = None
        self._released = False
        self._leader_changed = asyncio.Condition()

    async def acquire(self) -> None:
        """Stand by until this operator holds the Lease."""
        acquired = await self._try()
        while not acquired:
            await asyncio.sleep(self._timings.retry)
            acquired = await self._try()
        await self._set_leader(True)
        logger.info("%s holds the lease %s/%s", self.identity, self._namespace, self._name)

    async def keep_renewing(self) -> None:
        """Renew the Lease until another operator has taken it.

        While the API server does not answer, `is_leader` is False from the renew deadline on. It is True again after
        the next renewal, unless another operator took the Lease.
        """
        renewed = self._clock()
        while True:
            await asyncio.sleep(self._timings.retry)
            left = self._timings.renew_deadline - (self._clock() - renewed)
            try:
                async with asyncio.timeout(left if self.is_leader else self._timings.renew_deadline):
                    renewed_now = await self._try()
            except TimeoutError:
                renewed_now = False
            if self._released:
                return
            if renewed_now:
                renewed = self._clock()
            elif self._observed_lease and self._observed_lease.spec.get("holderIdentity") not in (
                None,
                "",
                self.identity,
            ):
                break
            is_leader = self._clock() - renewed < self._timings.renew_deadline
            if is_leader != self.is_leader:
                change = "is renewed again" if is_leader else "cannot be renewed; all work is paused until it can"
                logger.warning("the lease %s/%s %s", self._namespace, self._name, change)
                await self._set_leader(is_leader)
        await self._set_leader(False)
        self.lost = True
        logger.error("%s lost the lease %s/%s", self.identity, self._namespace, self._name)

    async def wait_until(self, is_leader: bool) -> None:
        """If `is_leader`, wait until this operator leads. If not, wait until it does not lead."""
        async with self._leader_changed:
            await self._leader_changed.wait_for(lambda: self.is_leader == is_leader)

    async def release(self) -> None:
        """Release the Lease immediately, if this operator still holds it. If that fails, the Lease expires."""
        if self._released or not self.is_leader:
            return
        self._released = True
        try:
            async with asyncio.timeout(self._timings.retry):
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
            if error.status != 409:  # 409: it was renewed at the same time
                raise
            await self._free()
        else:
            logger.info("%s released the lease %s/%s", self.identity, self._namespace, self._name)

    async def _set_leader(self, is_leader: bool) -> None:
        async with self._leader_changed:
            self.is_leader = is_leader
            self._leader_changed.notify_all()

    async def _try(self) -> bool:
        """Take or renew the Lease. Returns whether this operator holds it now."""
        if self._released:
            return False
        try:
            lease = await self._cluster.get("Lease", self._namespace, self._name)
            spec = (lease or {}).get("spec") or {}
            if self._observed_lease is None or self._observed_lease.spec != spec:
                self._observed_lease = ObservedLease(spec, self._clock())
            if lease and not may_acquire(self._observed_lease, self.identity, self._clock()):
                return False
            wanted = next_spec(spec, self.identity, self._timings, datetime.now(UTC))
            if lease is None:
                metadata = {"name": self._name, "namespace": self._namespace}
                kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
                return await self._cluster.create({**kind, "metadata": metadata, "spec": wanted}) is not None
            written = await self._cluster.replace({**lease, "spec": wanted})
            self._observed_lease = ObservedLease(written["spec"], self._clock())
        except ApiServerError as error:
            logger.warning("lease %s/%s: %s", self._namespace, self._name, error)
            return False
        return True
