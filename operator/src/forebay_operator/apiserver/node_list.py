"""Reads the cluster's nodes if a diagnosis needs them, and caches the nodes. The reconciler calls it."""

import asyncio
import logging
from collections.abc import Sequence

from forebay_kube.api_client import ApiServerError
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.status.diagnosis.gpus import Node, parse_node

logger = logging.getLogger(__name__)

MAX_NODE_LIST_AGE = 60.0
"""Seconds for which one list is used."""

FORBIDDEN_RETRY = 600.0
"""Seconds until an operator without the right to list nodes tries again."""


class NodeList:
    """Reads the nodes. For one event loop."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = asyncio.Lock()
        self._nodes: Sequence[Node] | None = None
        self._good_until = 0.0

    async def read(self) -> tuple[Sequence[Node] | None, float]:
        """Read the nodes. Returns None for the nodes if they cannot be listed; a diagnosis then does without the nodes.

        The second value is 0.0 for a new list. For a cached list, it is the number of seconds until a newer list can be
        read.
        """
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now < self._good_until:
                return self._nodes, self._good_until - now
            self._good_until = now + MAX_NODE_LIST_AGE
            try:
                self._nodes = [parse_node(manifest) for manifest in await self._cluster.list_nodes()]
            except ApiServerError as error:  # a transient error keeps the previous list
                if error.status == 403:
                    self._nodes, self._good_until = None, now + FORBIDDEN_RETRY
                logger.info("nodes cannot be read: %s", error)
            return self._nodes, 0.0
