"""The cluster's nodes, read only when a diagnosis asks for them, and seldom."""

import asyncio
import logging
from collections.abc import Sequence

from forebay_kube.api_client import ApiServerError
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.status.diagnosis.gpus import Node, parse_node

logger = logging.getLogger(__name__)

MAX_NODE_LIST_AGE = 60.0
"""Seconds for which one reading is good."""

FORBIDDEN_RETRY = 600.0
"""Seconds after which an operator that may not list nodes asks again."""


class NodeList:
    """Reads the nodes. For one event loop."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = asyncio.Lock()
        self._nodes: Sequence[Node] | None = None
        self._good_until = 0.0

    async def read(self) -> tuple[Sequence[Node] | None, float]:
        """All nodes, or None where they may not be listed or could not be: a diagnosis does without them.

        Besides, for a reading that was made for somebody before, the seconds after which there can be a newer one,
        else 0.0.
        """
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now < self._good_until:
                return self._nodes, self._good_until - now
            self._good_until = now + MAX_NODE_LIST_AGE
            try:
                self._nodes = [parse_node(manifest) for manifest in await self._cluster.list_nodes()]
            except ApiServerError as error:  # else than for good: what was read before is better than nothing
                if error.status == 403:
                    self._nodes, self._good_until = None, now + FORBIDDEN_RETRY
                logger.info("nodes cannot be read: %s", error)
            return self._nodes, 0.0
