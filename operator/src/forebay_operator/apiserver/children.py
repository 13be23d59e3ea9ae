"""One child of an endpoint: make it, mend it, or leave it alone, and never touch what others made."""

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
"""An API server that has just started says so, with the roles that it has not read yet."""


class ReconcileError(Exception):
    """Something that is desired could not be made; `diagnosis` tells the user, `retry` whether to try again soon."""

    def __init__(self, diagnosis: Diagnosis, retry: bool) -> None:
        super().__init__(diagnosis.text)
        self.diagnosis = diagnosis
        self.retry = retry


async def apply_child(
    cluster: Cluster, endpoint: Owner, desired: Manifest, cached: Manifest | None, exists: bool
) -> Manifest:
    """Make a child or mend it, and write nothing when it is right. One that was never there costs one request.

    `exists` says that it was there before, as far as is known. Returns the child as it is now.

    Raises:
        ReconcileError: the API server refused it, or its name is taken.
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
    # with the uid of what was looked at, the write fails on an object that took its place meanwhile
    aimed = {**desired, "metadata": {**desired["metadata"], "uid": live["metadata"]["uid"]}}
    return await explain_refusal(_apply(cluster, aimed, live), kind)


async def create_key_secret(cluster: Cluster, endpoint: Endpoint, exists: bool) -> tuple[Manifest | None, bool]:
    """Make the key Secret when it is missing, or see that the one that the endpoint names is there. Returns it, None
    where no key is asked for, and whether one that was there before was made anew.

    Raises:
        ReconcileError: the user's own Secret is missing, or the name of ours is taken.
    """
    if endpoint.auth.mode == "None":
        return None, False
    if name := endpoint.auth.secret_name:
        secret = await cluster.get("Secret", endpoint.namespace, name)
        if secret is None:
            message = f"the Secret {name} that spec.auth.secretName names does not exist"
            words = "each of its values must be a key of at least 16 characters"
            raise ReconcileError(reasons.SECRET_MISSING.diagnose(f"{message}; {words}"), retry=True)
        return secret, False
    return await create_secret(cluster, endpoint, build_key_secret(endpoint), exists)


async def create_secret(
    cluster: Cluster, endpoint: Endpoint, desired: Manifest, exists: bool
) -> tuple[Manifest | None, bool]:
    """Make a Secret of ours when it is missing. One that exists keeps its content, whatever it holds. Returns it, None
    where it went away meanwhile, and whether one that was there before (`exists`) was made again."""
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
    """Delete a child that is no longer desired; one that is not there, or not ours, is left as it is."""
    live = await cluster.get(kind, endpoint.namespace, name)
    owner = find_controller(live) if live else None
    if live and owner and owner["uid"] == endpoint.uid:
        await cluster.delete(live)


async def check_exists(cluster: Cluster, endpoint: Owner) -> None:
    """Raise unless the endpoint is still there: children of one whose deletion was missed would come and go."""
    live = await cluster.get(names.KIND, endpoint.namespace, endpoint.name)
    if live is None or live["metadata"]["uid"] != endpoint.uid:
        raise ReconcileError(reasons.DELETED.diagnose("the endpoint was deleted"), retry=False)


async def explain_refusal(request: Awaitable[T], kind: str) -> T:
    """Await a write; when the API server refuses it for good, tell the user in its words."""
    try:
        return await request
    except ApiServerError as error:
        if error.status not in (400, 403, 422) or _NO_RIGHTS_YET in error.message:
            raise
        message = f"the {kind} was refused: {error.message}"
        # 403 comes from a quota, a policy or a namespace that goes: it may pass without a change of the endpoint
        diagnosis = (
            recognize(FORBIDDEN_WORDINGS, message)
            if error.status == 403
            else reasons.REFUSED_BY_POLICY.diagnose(message)
        )
        raise ReconcileError(diagnosis, retry=True) from error


def check_owner(endpoint: Owner, live: Manifest) -> None:
    """Raise unless the object is this endpoint's own: what others made is never written to.

    A claim that an endpoint of this name left behind has no owner, and is taken up again.
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
    """Server-side apply, and what it can't do.

    It takes away only fields that an apply has set, so those that came by `create` are made such fields first. And it
    merges a Service's ports by number: one that somebody renumbered under our name makes it fail, one that somebody
    added stays. Either way the ports are replaced whole. A slice is ours as a whole, and changes often: one merge does.
    """
    if desired["kind"] == "EndpointSlice":
        try:
            return await cluster.merge(desired, desired)
        except ApiServerError as error:
            if error.status != 404:
                raise
            raise ApiServerError(
                409, "Conflict", "the object was deleted meanwhile"
            ) from error  # as an apply with a uid says it
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
