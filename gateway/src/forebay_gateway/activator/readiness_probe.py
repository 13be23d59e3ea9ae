"""Probes pods for readiness directly, so that a held request need not wait for the kubelet and two watches.

`app` passes it to the activator.
"""

import asyncio
from collections.abc import Sequence

import aiohttp

from forebay_gateway.endpoints.endpoint import Address

MAX_PROBED_PODS = 8
"""Pods of one endpoint that are probed at a time."""

PROBE_TIMEOUT = 1.0
"""Seconds for an answer. The server answers from memory, in a separate thread."""


class ReadinessProbe:
    """Probes the ops port of pods. Use it as an async context manager."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> "ReadinessProbe":
        connector = aiohttp.TCPConnector(limit=64, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def find_ready(self, pods: Sequence[Address]) -> list[Address]:
        """The pods that answer that they are ready. A pod that does not answer is not ready."""
        probed = pods[:MAX_PROBED_PODS]
        answers = await asyncio.gather(*map(self._is_ready, probed))
        return [pod for pod, ready in zip(probed, answers, strict=True) if ready]

    async def _is_ready(self, pod: Address) -> bool:
        try:
            async with self._session.get(
                f"http://{pod.url_host}:{self._port}/readyz", allow_redirects=False
            ) as response:
                return response.status == 200
        except (OSError, aiohttp.ClientError, TimeoutError):
            return False
