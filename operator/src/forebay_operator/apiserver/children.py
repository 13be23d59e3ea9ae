"""Creates, corrects and deletes one child of an endpoint. This module never touches an object of another owner.

The reconciler, the HTTPRoutes and the slice writer call it.
"""

from collections.abc import Awaitable
from typing import TypeVar

from forebay_kube import names
from forebay_kube.api_client import ApiServerError
from forebay_operator import labels
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.resources import build_key_secret
from forebay_operator.resources.drift import find_creation, has_foreign_ports, needs_apply
from forebay_operator.resources.meta import Owner, find_controller
from forebay_operator.spec import Endpoint, Manifest
from forebay_operator.status.diagnosis import Diagnosis, reasons
from forebay_operator.status.diagnosis.wordings import FORBIDDEN_WORDINGS, recognize

T = TypeVar("T")

_NO_RIGHTS_YET = "RBAC: ["
"""A part of the message of an API server that has just started, and has not read all roles yet."""


class ReconcileError(Exception):
    """A desired object could not be created. `diagnosis` is for the user; `retry` says whether to try again soon."""

    def __init__(self, diagnosis: Diagnosis, retry: bool) -> None:
        super().__init__(diagnosis.text)
        self.diagnosis = diagnosis
        self.retry = retry


async def apply_child(
    cluster: Cluster, endpoint: Owner, desired: Manifest, cached: Manifest | None, exists: bool
) -> Manifest:
    """Create or correct a child. Returns the child as it is now.

    If the child is right, nothing is written. The creation of a new child takes one request.

    Args:
        cached: the child in the cache, if known.
        exists: whether the child is known to have existed before.

    Raises:
        ReconcileError: the API server refused the child, or its name is taken.
    """
    kind, name = desired["kind"], desired["metadata"]["name"]
    if cached is None and not exists:
        created = await explain_refusal(cluster.create(desired), kind)
        if created:
            return created
    live = cached or await cluster.get(kind, endpoint.namespace, name)
    if live is None:
        await check_exists(cluster, endpoint)
        return await explain_refusal(cluster.apply(desired), kind)
    check_owner(endpoint, live)
    if not needs_apply(desired, live):
        return live
    # with this uid the write fails if another object has the name by now
    aimed = {**desired, "metadata": {**desired["metadata"], "uid": live["metadata"]["uid"]}}
    return await explain_refusal(_apply(cluster, aimed, live), kind)


async def create_key_secret(cluster: Cluster, endpoint: Endpoint, exists: bool) -> tuple[Manifest | None, bool]:
    """Create the key Secret if it is missing, or read the Secret that the endpoint names.

    Returns two values: the Secret, or None if the endpoint needs no key; and whether a Secret that existed before was
    created again.

    Raises:
        ReconcileError: the user's own Secret is missing, or the name of the generated Secret is taken.
    """
    if endpoint.auth.mode == "None":
        return None, False
    if name := endpoint.auth.secret_name:
        secret = await cluster.get("Secret", endpoint.namespace, name)
        if secret is None:
            message = f"the Secret {name} that spec.auth.secretName names does not exist"
            form = "each of its values must be a key of at least 16 characters"
            raise ReconcileError(reasons.SECRET_MISSING.diagnose(f"{message}; {form}"), retry=True)
        return secret, False
    return await create_secret(cluster, endpoint, build_key_secret(endpoint), exists)


async def create_secret(
    cluster: Cluster, endpoint: Endpoint, desired: Manifest, exists: bool
) -> tuple[Manifest | None, bool]:
    """Create a generated Secret if it is missing. An existing one keeps its content.

    Returns two values: the Secret, or None if it was deleted just now; and whether a Secret that existed before
    (`exists`) was created again.
    """
    name = desired["metadata"]["name"]
    live = await cluster.get("Secret", endpoint.namespace, name) if exists else None
    if live is None:
        if exists:
            await check_exists(cluster, endpoint)
        if created := await explain_refusal(cluster.create(desired), "Secret"):
            return created, exists
        live = await cluster.get("Secret", endpoint.namespace, name)
    if live is not None:
        check_owner(endpoint, live)
    return live, False


async def remove(cluster: Cluster, endpoint: Endpoint, kind: str, name: str) -> None:
    """Delete a child that is no longer desired. Nothing happens if it is missing or has another owner."""
    live = await cluster.get(kind, endpoint.namespace, name)
    owner = find_controller(live) if live else None
    if live and owner and owner["uid"] == endpoint.uid:
        await cluster.delete(live)


async def check_exists(cluster: Cluster, endpoint: Owner) -> None:
    """Raise ReconcileError unless the endpoint still exists.

    If a watch missed the deletion of the endpoint, Kubernetes would delete each new child again.
    """
    live = await cluster.get(names.KIND, endpoint.namespace, endpoint.name)
    if live is None or live["metadata"]["uid"] != endpoint.uid:
        raise ReconcileError(reasons.DELETED.diagnose("the endpoint was deleted"), retry=False)


async def explain_refusal(request: Awaitable[T], kind: str) -> T:
    """Await a write. A refusal of the API server (400, 403 or 422) becomes a ReconcileError with its message."""
    try:
        return await request
    except ApiServerError as error:
        if error.status not in (400, 403, 422) or _NO_RIGHTS_YET in error.message:
            raise
        message = f"the {kind} was refused: {error.message}"
        # 403 comes from a quota, a policy or a namespace in deletion: it may pass without a change of the endpoint
        diagnosis = (
            recognize(FORBIDDEN_WORDINGS, message)
            if error.status == 403
            else reasons.REFUSED_BY_POLICY.diagnose(message)
        )
        raise ReconcileError(diagnosis, retry=True) from error


def check_owner(endpoint: Owner, live: Manifest) -> None:
    """Raise ReconcileError unless the object belongs to this endpoint: objects of others are never written.

    A claim that a deleted endpoint of this name left behind has no owner. Such a claim is used again.
    """
    owner = find_controller(live)
    if owner and owner["uid"] == endpoint.uid:
        return
    if not owner and live.get("kind") == "PersistentVolumeClaim":
        found_labels = live["metadata"].get("labels") or {}
        if labels.child_labels(endpoint.name).items() <= found_labels.items():
            return
    thing = f"{live.get('kind', 'object')} {live['metadata']['name']}"
    if owner and owner["kind"] == names.KIND and owner["name"] == endpoint.name:
        message = f"the {thing} of a deleted endpoint of this name is still there"
        raise ReconcileError(reasons.WAITING_FOR_DELETION.diagnose(message), retry=True)
    message = f"the {thing} already exists and does not belong to this endpoint"
    raise ReconcileError(reasons.NOT_OWNED.diagnose(message), retry=True)


async def _apply(cluster: Cluster, desired: Manifest, live: Manifest) -> Manifest:
    """Write a child by server-side apply, with a workaround for each of its limits.

    Apply removes only fields that it owns. So the ownership of fields set by `create` is transferred first.

    Apply merges a Service's ports by number. It fails if somebody renumbered a port, and it keeps ports that
    somebody added. In both cases the ports are replaced as a whole.

    A slice changes often and belongs to the operator as a whole. One merge patch is enough for a slice, unless its
    labels or annotations change: a merge patch would not remove labels or annotations. A desired Deployment without a
    template is merged too, so that the live template stays.
    """
    keeps_template = desired["kind"] == "Deployment" and "template" not in desired["spec"]
    if keeps_template or (desired["kind"] == "EndpointSlice" and _has_metadata_of(live, desired)):
        try:
            return await cluster.merge(desired, desired)
        except ApiServerError as error:
            if error.status != 404:
                raise
            message = "the object was deleted before the write"
            raise ApiServerError(409, "Conflict", message) from error  # an apply with a uid fails like this
    created_by = find_creation(live)
    if created_by is not None:
        await cluster.own_as_applied(desired, created_by)
    try:
        live = await cluster.apply(desired)
    except ApiServerError as error:
        if error.status != 422 or desired["kind"] != "Service":
            raise
    else:
        if not has_foreign_ports(live, desired):
            return live
    await cluster.merge(desired, {"spec": {"ports": desired["spec"]["ports"]}})
    return await cluster.apply(desired)


def _has_metadata_of(live: Manifest, desired: Manifest) -> bool:
    """Whether two manifests have the same labels and annotations, apart from the annotation with the applied digest."""

    def read(manifest: Manifest) -> tuple[Manifest, Manifest]:
        annotations = dict(manifest["metadata"].get("annotations") or {})
        annotations.pop(labels.APPLIED_ANNOTATION, None)
        return manifest["metadata"].get("labels") or {}, annotations

    return read(live) == read(desired)
