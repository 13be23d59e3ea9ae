"""Writes an absent `spec.replicas` of an endpoint, and leaves the field to the user. The reconciler calls it.

The API server makes the writer of the scale subresource an owner of the field. A user's server-side apply of another
number, without force, would then conflict. So the operator gives up the ownership. The field then has no owner, as with
a default in the schema.
"""

import logging

from forebay_kube import names
from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import key_of_endpoint
from forebay_operator.apiserver.children import explain_refusal
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.labels import FIELD_MANAGER
from forebay_operator.spec import Manifest

logger = logging.getLogger(__name__)


async def fill_in_replicas(cluster: Cluster, manifest: Manifest, replicas: int) -> bool:
    """Write the number. Returns False, and writes nothing, if the endpoint has changed since it was read.

    With `spec.scaling` the operator keeps the ownership of the field.

    Raises:
        ReconcileError: the API server refused it.
    """
    if not await explain_refusal(cluster.scale(manifest, replicas), "number of replicas"):
        return False
    key = key_of_endpoint(manifest)
    logger.info("endpoint %s/%s: spec.replicas was omitted and is now %d", *key, replicas)
    if (manifest.get("spec") or {}).get("scaling") is None and is_applied(manifest):
        try:
            await _disown_replicas(cluster, manifest)
        except ApiServerError as error:  # the number is written; only a conflict remains, which force resolves
            logger.info("endpoint %s/%s: the operator stays an owner of spec.replicas: %s", *key, error)
    return True


def is_applied(manifest: Manifest) -> bool:
    """Whether somebody uses server-side apply for the endpoint. Other writes cause no conflicts."""
    managers = manifest["metadata"].get("managedFields") or ()
    return any(entry.get("operation") == "Apply" and not entry.get("subresource") for entry in managers)


async def _disown_replicas(cluster: Cluster, manifest: Manifest) -> None:
    live = await cluster.get(names.KIND, *key_of_endpoint(manifest))
    if live is None:
        return
    for place, entry in enumerate(live["metadata"].get("managedFields") or ()):
        if (entry.get("manager"), entry.get("subresource")) == (FIELD_MANAGER, "scale"):
            await cluster.disown(live, place)
            return
