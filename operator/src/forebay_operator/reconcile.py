"""Bring one endpoint from what is to what is desired, and say in its status what came of it."""

import logging
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from forebay_operator import names
from forebay_operator.api import ApiError
from forebay_operator.cache import Cache, Key
from forebay_operator.cluster import Cluster
from forebay_operator.diagnosis import Diagnosis, reasons
from forebay_operator.diagnosis.gpus import wants_nodes
from forebay_operator.diagnosis.wordings import FORBIDDEN, recognize
from forebay_operator.drift import find_creation, has_foreign_ports, needs_apply
from forebay_operator.environment import find_doubtful, known_names, settable_names
from forebay_operator.nodes import Nodes
from forebay_operator.observed import Observed
from forebay_operator.publish import Publisher
from forebay_operator.reports import StartupReports
from forebay_operator.resources import build_deployment, build_key_secret, build_service
from forebay_operator.resources.meta import find_controller
from forebay_operator.settings import Settings
from forebay_operator.startup import ended_run_of, find_unread, run_of
from forebay_operator.status import assess, assess_invalid
from forebay_operator.types import Endpoint, InvalidSpec, Manifest, parse_endpoint
from forebay_operator.verdict import find_failure

logger = logging.getLogger(__name__)

T = TypeVar("T")

IMAGE_VOLUME_MINOR = 35
"""Kubernetes 1.35 is the first that mounts images as volumes without a feature gate."""


class Unmade(Exception):
    """Something that is desired could not be made; `diagnosis` tells the user, `retry` whether to try again soon."""

    def __init__(self, diagnosis: Diagnosis, retry: bool) -> None:
        super().__init__(diagnosis.text)
        self.diagnosis = diagnosis
        self.retry = retry


class Reconciler:
    """Reconciles endpoints by key. Any number may run at once, for different keys."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        settings: Settings,
        publisher: Publisher,
        reports: StartupReports,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._publisher = publisher
        self._reports = reports
        self._nodes = Nodes(cluster)
        self._made: dict[Key, str] = {}
        """Endpoints whose children were all there once, with their uid: what is missing then was taken away."""

    async def reconcile(self, key: Key, live: bool = False) -> bool:
        """Reconcile one endpoint. Returns whether all is done; if not, call again later.

        With `live` the API server is asked for the endpoint and its children, since a watch that was cut may have
        missed a deletion.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        manifest = self._cache.endpoint(key)
        if live and manifest is not None:
            manifest = await self._cluster.get(names.KIND, *key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            self._made.pop(key, None)
            self._publisher.forget(key)
            self._reports.follow(key, {})
            return True
        before = self._publisher.status_before(manifest)
        deployment = _own(manifest, self._cache.deployment(key))
        observed = Observed(deployment, self._cache.pods_of(key), reports=self._reports.of(key))
        try:
            endpoint = parse_endpoint(manifest)
        except InvalidSpec as error:
            observed = replace(observed, problem=reasons.INVALID_SPEC.found(str(error)))
            await self._publisher.write(manifest, before, assess_invalid(manifest, observed, before, datetime.now(UTC)))
            return True
        done, problem_seen = True, None
        try:
            deployment = await self._make_children(endpoint, observed, live)
        except Unmade as error:
            logger.warning("endpoint %s/%s: %s", *key, error)
            done, problem_seen = not error.retry, error.diagnosis
        doubtful = find_doubtful(endpoint.env, known_names(), settable_names())
        observed = replace(observed, deployment=deployment, problem=problem_seen, doubtful=doubtful)
        if wants_nodes(find_failure(observed), endpoint.gpu):
            observed = replace(observed, nodes=await self._nodes.read())
        status = assess(endpoint, observed, before, datetime.now(UTC))
        await self._publisher.write(manifest, before, status)
        self._follow_starts(key, observed, status)
        return done

    def _follow_starts(self, key: Key, observed: Observed, status: Manifest) -> None:
        """Have those pods asked whose report matters."""
        unread = find_unread(observed.newest, status.get("lastStart") or {}, observed.reports)
        addresses = {run_of(pod): pod["status"]["podIP"] for pod in unread if pod["status"].get("podIP")}
        self._reports.follow(
            key, addresses, keep={run(pod) for pod in observed.newest for run in (run_of, ended_run_of)}
        )

    async def _make_children(self, endpoint: Endpoint, observed: Observed, live: bool) -> Manifest:
        """Make all that the endpoint consists of. Returns its Deployment as it is now."""
        key = endpoint.namespace, endpoint.name
        if endpoint.model.kind == "image":
            await self._check_image_volumes()
        desired = build_deployment(endpoint, self._settings, observed.stuck_revisions)
        if not desired["spec"]["template"]["spec"]["containers"][0]["image"]:
            kind, value = ("GPUs", "server.gpuImage") if endpoint.gpu.count else ("gpu.count 0", "server.cpuImage")
            found = f"the operator has no server image for endpoints with {kind}"
            raise Unmade(reasons.NO_SERVER_IMAGE.found(found, value=value), retry=False)
        made = observed.deployment is not None or self._made.get(key) == endpoint.uid
        if live or not made:
            await self._ensure_key_secret(endpoint, made)
        cached = (None, None) if live else (self._cache.service(key), self._cache.deployment(key))
        await self._ensure(endpoint, build_service(endpoint), cached[0], made)
        deployment = await self._ensure(endpoint, desired, cached[1], made)
        self._made[key] = endpoint.uid
        return deployment

    async def _check_image_volumes(self) -> None:
        """Raise unless the cluster mounts images as volumes; its version is read again, as it may be upgraded."""
        minor = self._settings.kubernetes_minor
        if minor < IMAGE_VOLUME_MINOR:
            minor = await self._cluster.get_minor_version()
        if minor < IMAGE_VOLUME_MINOR:
            found = f"model images need Kubernetes 1.{IMAGE_VOLUME_MINOR}; this is 1.{minor}"
            raise Unmade(reasons.IMAGE_VOLUME_UNSUPPORTED.found(found), retry=True)

    async def _ensure_key_secret(self, endpoint: Endpoint, made: bool) -> None:
        """Make the key Secret when it is missing. One that exists keeps its key, whatever it holds."""
        if endpoint.auth.mode == "None":
            return
        if name := endpoint.auth.secret_name:
            if await self._cluster.get("Secret", endpoint.namespace, name) is None:
                found = (
                    f"the Secret {name} that spec.auth.secretName names does not exist; each of its values is a key, "
                    "16 characters or more"
                )
                raise Unmade(reasons.SECRET_MISSING.found(found), retry=True)
            return
        desired = build_key_secret(endpoint)
        name = desired["metadata"]["name"]
        live = await self._cluster.get("Secret", endpoint.namespace, name) if made else None
        if live is None:
            if made:
                await self._check_exists(endpoint)
            if await _explain_refusal(self._cluster.create(desired), "Secret"):
                if made:
                    found = f"the Secret {name} was gone; it was made anew with another key, which callers need now"
                    self._publisher.events.record(
                        (endpoint.namespace, endpoint.name), endpoint.uid, "KeyReplaced", found, warning=True
                    )
                return
            live = await self._cluster.get("Secret", endpoint.namespace, name)
        if live is not None:
            _check_owner(endpoint, live)

    async def _ensure(self, endpoint: Endpoint, desired: Manifest, cached: Manifest | None, made: bool) -> Manifest:
        """Make a child or mend it, and write nothing when it is right. One that was never there costs one request."""
        kind, name = desired["kind"], desired["metadata"]["name"]
        if cached is None and not made:
            created = await _explain_refusal(self._cluster.create(desired), kind)
            if created:
                return created
        live = cached or await self._cluster.get(kind, endpoint.namespace, name)
        if live is None:
            await self._check_exists(endpoint)
            return await _explain_refusal(self._cluster.apply(desired), kind)
        _check_owner(endpoint, live)
        if not needs_apply(desired, live):
            return live
        # with the uid of what was looked at, the write fails on an object that took its place meanwhile
        aimed = {**desired, "metadata": {**desired["metadata"], "uid": live["metadata"]["uid"]}}
        return await _explain_refusal(self._apply(aimed, live), kind)

    async def _apply(self, desired: Manifest, live: Manifest) -> Manifest:
        """Server-side apply, and what it can't do.

        It takes away only fields that an apply has set, so those that came by `create` are made such fields first. And
        it merges a Service's ports by number: one that somebody renumbered under our name makes it fail, one that
        somebody added stays. Either way the ports are replaced whole.
        """
        created_by = find_creation(live)
        if created_by is not None:
            await self._cluster.own_as_applied(desired, created_by)
        try:
            live = await self._cluster.apply(desired)
        except ApiError as error:
            if error.status != 422 or desired["kind"] != "Service":
                raise
        else:
            if not has_foreign_ports(live, desired):
                return live
        await self._cluster.merge(desired, {"spec": {"ports": desired["spec"]["ports"]}})
        return await self._cluster.apply(desired)

    async def _check_exists(self, endpoint: Endpoint) -> None:
        """Raise unless the endpoint is still there: children of one whose deletion was missed would come and go."""
        found = await self._cluster.get(names.KIND, endpoint.namespace, endpoint.name)
        if found is None or found["metadata"]["uid"] != endpoint.uid:
            raise Unmade(reasons.DELETED.found("the endpoint was deleted"), retry=False)


async def _explain_refusal(request: Awaitable[T], kind: str) -> T:
    """Await a write; when the API server refuses it for good, tell the user in its words."""
    try:
        return await request
    except ApiError as error:
        if error.status not in (400, 403, 422):
            raise
        found = f"the {kind} was refused: {error.message}"
        # 403 comes from a quota, a policy or a namespace that goes: it may pass without a change of the endpoint
        diagnosis = recognize(FORBIDDEN, found) if error.status == 403 else reasons.REFUSED.found(found)
        raise Unmade(diagnosis, retry=True) from error


def _own(manifest: Manifest, child: Manifest | None) -> Manifest | None:
    """The child if it belongs to this very endpoint, not to a deleted one of the same name."""
    owner = find_controller(child) if child else None
    return child if owner and owner["uid"] == manifest["metadata"]["uid"] else None


def _check_owner(endpoint: Endpoint, live: Manifest) -> None:
    """Raise unless the object is this endpoint's own: what others made is never written to."""
    owner = find_controller(live)
    if owner and owner["uid"] == endpoint.uid:
        return
    thing = f"{live.get('kind', 'object')} {live['metadata']['name']}"
    if owner and owner["kind"] == names.KIND and owner["name"] == endpoint.name:
        found = f"the {thing} of a deleted endpoint of this name is still there"
        raise Unmade(reasons.WAITING_FOR_DELETION.found(found), retry=True)
    found = f"the {thing} already exists and does not belong to this endpoint"
    raise Unmade(reasons.NOT_OWNED.found(found), retry=True)
