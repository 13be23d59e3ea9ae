"""What lets gateways stand in for an endpoint: the slices that lead its Service there, and the digests of its keys."""

from collections.abc import Callable, Collection

from forebay_operator import names
from forebay_operator.cache import Cache, Key
from forebay_operator.children import Unmade, ensure
from forebay_operator.cluster import Cluster
from forebay_operator.diagnosis import reasons
from forebay_operator.digests import Digests
from forebay_operator.gateways import Gateways, of_family
from forebay_operator.ports import NoPortLeft, Ports
from forebay_operator.resources import build_gateway_slice
from forebay_operator.types import Endpoint, Manifest


class Holding:
    """For all endpoints. Without gateways it only sees to it that no slice leads to any."""

    def __init__(
        self, cluster: Cluster, cache: Cache, gateways: Gateways | None = None, digests: Digests | None = None
    ):
        self._cluster = cluster
        self._cache = cache
        self._gateways = gateways
        self._digests = digests
        self._ports = Ports(cache.slices)
        self._standing: set[Key] = set()

    @property
    def gateways(self) -> int:
        """How many gateways are ready."""
        return len(self._gateways.addresses) if self._gateways else 0

    def lead_anew(self, add: Callable[[Key], None]) -> None:
        """Other gateways are ready than before: `add` is called for each endpoint for which they stand in."""
        for key in self._standing:
            add(key)

    async def ensure_slices(self, endpoint: Endpoint, serving: bool, live: bool, made: bool) -> None:
        """Have the slices list the gateways, or nobody while pods of the endpoint serve.

        Raises:
            Unmade: the API server refused it, a name is taken, or no port is left.
        """
        key = endpoint.namespace, endpoint.name
        (self._standing.discard if serving else self._standing.add)(key)
        slices = {one["metadata"]["name"]: one for one in self._cache.slices.get(key, ())}
        if self._gateways is None and not slices:
            return
        addresses = self._gateways.addresses if self._gateways and not serving else ()
        try:
            port = self._ports.find(key, slices.values())
        except NoPortLeft as error:
            raise Unmade(reasons.NO_PORT_LEFT.found(str(error)), retry=True) from error
        for family in ("IPv4", "IPv6"):
            name, listed = names.gateway_slice_name(endpoint.name, family), of_family(addresses, family)
            if family == "IPv4" or listed or name in slices:  # that of IPv4 has the port in any case
                desired = build_gateway_slice(endpoint, family, port, listed)
                await ensure(self._cluster, endpoint, desired, None if live else slices.get(name), made)

    def lacks_keys(self, key: Key) -> bool:
        """Whether the gateways do not know the keys of an endpoint."""
        return self._digests is not None and not self._digests.knows(key)

    def put_keys(self, key: Key, secret: Manifest | None) -> None:
        """These are the keys of an endpoint, as its Secret has them; None where there are none."""
        if self._digests:
            self._digests.put(key, secret)

    def forget(self, key: Key) -> None:
        """The endpoint is gone."""
        self._standing.discard(key)
        self._ports.release(key)
        if self._digests:
            self._digests.drop(key)

    async def prepare(self, namespaces: Collection[str]) -> None:
        """Learn which gateways are ready and what they know, before any endpoint is looked at. Endpoints that are not
        in the cache, which is complete by now, are gone. `namespaces`: those watched; none for all.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        if self._gateways:
            await self._gateways.known.wait()
        if self._digests:
            await self._digests.prepare(set(self._cache.endpoints), namespaces)
