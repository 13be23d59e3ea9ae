"""Scales an endpoint from 0 to 1 through the scale subresource. The activator calls it.

The module writes only if the endpoint has not changed since it was read. So scaling up works while the operator is
down, and never undoes another change.
"""

import logging
from typing import Any

from forebay_gateway.metrics import WAKES
from forebay_kube import names
from forebay_kube.api_client import ApiClient, ApiServerError
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)

GATEWAY_FIELD_MANAGER = "forebay-gateway"
"""The field manager of this write, in the endpoint's managedFields."""


async def wake(api: ApiClient, key: EndpointKey) -> None:
    """Scale from 0 to 1. A conflict, or no answer of the API server, is no error: the caller tries again."""
    path = f"/apis/{names.GROUP}/{names.VERSION}/namespaces/{key[0]}/{names.PLURAL}/{key[1]}/scale"
    try:
        scale: dict[str, Any] = await api.request("GET", path)
        if scale["spec"].get("replicas", 0) != 0:
            WAKES.labels("raced").inc()
            return
        patch = {"metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]}, "spec": {"replicas": 1}}
        query = {"fieldManager": GATEWAY_FIELD_MANAGER}
        await api.request("PATCH", path, patch, query=query, content_type="application/merge-patch+json")
    except ApiServerError as error:
        WAKES.labels("raced" if error.status in (404, 409) else "error").inc()
        logger.log(logging.INFO if error.status in (404, 409) else logging.ERROR, "waking %s/%s: %s", *key, error)
        return
    WAKES.labels("done").inc()
    logger.info("woke %s/%s", *key)
