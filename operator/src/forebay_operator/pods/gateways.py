"""Finds the ready gateways, and reads the requests that they hold. The slice writer and the autoscaler call it.

A gateway that does not answer is no error. While its requests are unknown, no endpoint is scaled to zero.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

import aiohttp

from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.pods.client import get_text
from forebay_operator.pods.load import GatewayLoad, parse_gateway_load, parse_reread
from forebay_operator.spec import Manifest
from forebay_protocol.pod import OPS_PORT

logger = logging.getLogger(__name__)

GATEWAY_WAIT = 10.0
"""Seconds after which the work begins although the gateways are unknown."""

GATEWAY_LIST_INTERVAL = 1.0
"""Seconds between two reads of the Service's slices. A terminating gateway serves for 10 s more (the chart's preStop).
In this time the endpoints' slices must be written without this gateway (slice_writer.py)."""


class Gateways:
    """The ready pods of the gateways' Service.

    Attributes:
        addresses: their addresses; None until they were read once.
        reread: endpoints whose key Secret the gateways ask the operator to read again (key_refresh.py), oldest first.
    """

    def __init__(self, cluster: Cluster, namespace: str, service: str, port: int = OPS_PORT) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._service = service
        self._port = port
        self._changed = asyncio.Event()
        self._known = asyncio.Event()
        self.addresses: tuple[str, ...] | None = None
        self.reread: dict[EndpointKey, None] = {}

    async def wait_until_known(self) -> None:
        """Wait until the gateways were read once, for GATEWAY_WAIT at most: endpoints are served without gateways
        too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATEWAY_WAIT):
                await self._known.wait()

    async def wait_for_change(self) -> None:
        """Wait until the ready gateways have changed since the last call."""
        await self._changed.wait()
        self._changed.clear()

    async def run(self) -> None:
        """Follow the ready gateways, forever. The addresses stay while the API server does not answer."""
        while True:
            try:
                addresses = find_ready(await self._cluster.list_slices(self._namespace, self._service))
            except ApiServerError as error:
                logger.warning("could not list the gateways: %s", error)
            except Exception:  # a slice may have any content
                logger.exception("could not list the gateways")
            else:
                if addresses != self.addresses:
                    logger.info("gateways that are ready: %s", ", ".join(addresses) or "none")
                    self.addresses = addresses
                    self._changed.set()
                self._known.set()
            await asyncio.sleep(GATEWAY_LIST_INTERVAL)

    async def read_held(
        self, session: aiohttp.ClientSession
    ) -> Sequence[tuple[str, Mapping[EndpointKey, GatewayLoad] | None]]:
        """Read the load of each gateway, by endpoint; None for a gateway that does not answer."""
        addresses = self.addresses or ()

        async def read(address: str) -> Mapping[EndpointKey, GatewayLoad] | None:
            text = await get_text(session, address, self._port, "/held")
            if text is None:
                return None
            self.reread.update(dict.fromkeys(parse_reread(text)))
            return parse_gateway_load(text)

        return list(zip(addresses, await asyncio.gather(*map(read, addresses)), strict=True))


def find_ready(slices: Sequence[Manifest]) -> tuple[str, ...]:
    """The addresses that a Service's EndpointSlices list as ready, sorted."""
    listed = (one for each in slices for one in each.get("endpoints") or ())
    ready = {one["addresses"][0] for one in listed if (one.get("conditions") or {}).get("ready") is not False}
    return tuple(sorted(ready))


def of_family(addresses: Sequence[str], family: str) -> list[str]:
    """The addresses of one family, IPv4 or IPv6."""
    version = 4 if family == "IPv4" else 6
    return [address for address in addresses if ipaddress.ip_address(address).version == version]
