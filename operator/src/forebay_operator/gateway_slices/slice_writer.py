"""Writes the EndpointSlices that lead an endpoint's Service to the gateways while none of its pods is ready.

The reconciler calls it.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from forebay_kube import names
from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.apiserver.cache import Cache
from forebay_operator.apiserver.children import ReconcileError, apply_child
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.gateway_slices.port_allocator import NoPortLeft, PortAllocator
from forebay_operator.pods.gateways import Gateways, find_ready, of_family
from forebay_operator.resources import build_gateway_slice
from forebay_operator.resources.meta import Owner
from forebay_operator.spec import NO_INHERITANCE, Inheritance, Inherited, Manifest
from forebay_operator.status.diagnosis import reasons

logger = logging.getLogger(__name__)

CONCURRENT_SLICE_WRITES = 16
"""Endpoints whose slices are written concurrently after a change of the ready gateways."""


@dataclass(frozen=True)
class _Named:
    """An endpoint without its spec, which may be invalid."""

    namespace: str
    name: str
    uid: str
    inherited: Inherited


class SliceWriter:
    """The gateway slices of all endpoints. Without `gateways` it only empties existing slices."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        gateways: Gateways | None = None,
        namespace_share: float = 0.5,
        inheritance: Inheritance = NO_INHERITANCE,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._gateways = gateways
        self._inheritance = inheritance
        self._ports = PortAllocator(cache.slices, cache.endpoints, namespace_share)
        self._activated: set[EndpointKey] = set()

    @property
    def gateways(self) -> int:
        """The number of ready gateways."""
        return len(self._gateways.addresses or ()) if self._gateways else 0

    async def run(self) -> None:
        """Rewrite the slices that lead to gateways whenever the ready gateways change, forever.

        It does not wait for the work queue, because a terminating gateway serves only for some more seconds.
        """
        while self._gateways:
            keys = iter(list(self._activated))
            await asyncio.gather(*(self._rewrite_slices(keys) for _ in range(CONCURRENT_SLICE_WRITES)))
            await self._gateways.wait_for_change()

    async def _rewrite_slices(self, keys: Iterable[EndpointKey]) -> None:
        for key in keys:
            endpoint = self._cache.endpoint(key)
            if endpoint is None or key not in self._activated:
                continue
            try:
                await self.apply_slices(self._name(endpoint), False, False, True)
            except (ApiServerError, ReconcileError) as error:
                logger.warning("endpoint %s/%s: %s", *key, error)

    async def apply_slices(self, endpoint: Owner, serving: bool, force_refresh: bool, exists: bool) -> bool:
        """Write the slices of an endpoint: with the ready gateways, or empty while its pods serve (`serving`).

        Returns False if the slices are still needed, because the Service does not lead to a pod yet. Then call this
        method again soon.

        Raises:
            ApiServerError: the API server did not answer.
            ReconcileError: the API server refused, a name is taken, or no port is left.
        """
        key = endpoint.namespace, endpoint.name
        (self._activated.discard if serving else self._activated.add)(key)
        slices = {one["metadata"]["name"]: one for one in self._cache.slices.get(key, ())}
        addresses = self._gateways.addresses if self._gateways else ()
        if addresses is None or (self._gateways is None and not slices):
            return True
        leaving = serving and any(one.get("endpoints") for one in slices.values())
        if leaving and self._gateways and not await self._leads_to_pods(key):
            return False
        try:
            port = self._ports.find(key, endpoint.uid, slices.values())
        except NoPortLeft as error:
            raise ReconcileError(reasons.NO_PORT_LEFT.diagnose(str(error)), retry=True) from error
        for family in ("IPv4", "IPv6"):
            name, listed = labels.gateway_slice_name(endpoint.name, family), of_family(addresses, family)
            if family == "IPv4" or listed or name in slices:  # the IPv4 slice always exists: it has the port
                desired = build_gateway_slice(endpoint, family, port, () if serving else listed)
                await apply_child(self._cluster, endpoint, desired, None if force_refresh else slices.get(name), exists)
        return True

    async def maintain_slices(self, manifest: Manifest, serving: bool, force_refresh: bool) -> None:
        """Update the slices of an endpoint with an invalid spec, so that they do not lead to former gateways."""
        named = self._name(manifest)
        if list(self._cache.slices.get((named.namespace, named.name), ())):
            try:
                await self.apply_slices(named, serving, force_refresh, True)
            except ReconcileError as error:  # logged only: the status reports the invalid spec
                logger.warning("endpoint %s/%s: %s", named.namespace, named.name, error)

    def _name(self, manifest: Manifest) -> _Named:
        metadata = manifest["metadata"]
        inherited = self._inheritance.select(metadata)
        return _Named(metadata["namespace"], metadata["name"], metadata["uid"], inherited)

    async def _leads_to_pods(self, key: EndpointKey) -> bool:
        """Whether Kubernetes' own slices lead to a ready pod.

        Until they do, the gateways must stay in the slices, or the Service would lead nowhere.
        """
        slices = await self._cluster.list_slices(*key)
        label, own = names.SLICE_MANAGER_LABEL, names.KUBERNETES_SLICE_MANAGER
        return bool(find_ready([one for one in slices if (one["metadata"].get("labels") or {}).get(label) == own]))

    def forget(self, key: EndpointKey) -> None:
        """Drop the state of an endpoint that no longer exists."""
        self._activated.discard(key)
        self._ports.release(key)
