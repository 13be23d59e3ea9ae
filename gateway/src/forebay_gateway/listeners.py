"""Listens on the shared port and on one port for each endpoint. The EndpointSlices name the ports. `app` runs it."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping

from forebay_gateway.proxy.client_connection import ClientConnection
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)

BACKLOG = 4096

Accept = Callable[[EndpointKey | None], ClientConnection]


class Listeners:
    """The open listeners. `wanted` returns the endpoints' ports that should be open now."""

    def __init__(self, accept: Accept, wanted: Callable[[], Mapping[int, EndpointKey]]) -> None:
        self._accept = accept
        self._wanted = wanted
        self._changed = asyncio.Event()
        self._open: dict[int, tuple[EndpointKey | None, asyncio.Server]] = {}

    def change(self) -> None:
        """Check the wanted ports again, because they may have changed."""
        self._changed.set()

    async def open_shared(self, port: int) -> None:
        """Listen on the shared port, for requests to all endpoints. Raises OSError if that fails."""
        self._open[port] = (None, await self._listen(port, None))

    async def run(self) -> None:
        """Open and close ports as wanted, forever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = self._wanted()
            for port, (key, server) in list(self._open.items()):
                if key is not None and wanted.get(port) != key:
                    server.close()
                    del self._open[port]
            for port, key in wanted.items():
                if port not in self._open:
                    try:
                        self._open[port] = (key, await self._listen(port, key))
                    except OSError as error:
                        logger.error("port %d of %s/%s cannot be listened on: %s", port, *key, error)

    def close(self) -> None:
        """Accept no new connections."""
        for _, server in self._open.values():
            server.close()
        self._open.clear()

    async def _listen(self, port: int, key: EndpointKey | None) -> asyncio.Server:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        listening = socket.create_server(("", port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: self._accept(key), sock=listening, backlog=BACKLOG)
