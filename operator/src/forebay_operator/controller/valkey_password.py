"""Creates the Secret with the password of the chart's own Valkey. The pods of Valkey and of the gateways wait for it.

Every operator does this, because the leader may belong to another release with a Valkey of its own.
"""

import asyncio
import logging

from forebay_kube.api_client import ApiServerError
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.resources.valkey_secret import build_valkey_secret

logger = logging.getLogger(__name__)

PASSWORD_CHECK_INTERVAL = 5.0
"""Seconds between two reads of the Secret, which is not watched."""


async def ensure_valkey_password(cluster: Cluster, namespace: str, service: str) -> None:
    """Create the Secret whenever it is missing, until cancelled. An existing Secret is never changed."""
    while True:
        try:
            if await cluster.get("Secret", namespace, service) is None:
                await cluster.create(build_valkey_secret(namespace, service))
        except ApiServerError as error:
            logger.warning("the Secret %s with the password of Valkey: %s", service, error)
        await asyncio.sleep(PASSWORD_CHECK_INTERVAL)
