"""Bring one endpoint from what is to what is desired, and say in its status what came of it."""

import logging
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

from forebay_operator import names
from forebay_operator.cache import Cache, Key
from forebay_operator.cluster import ApiError, Cluster
from forebay_operator.diagnosis import Diagnosis
from forebay_operator.drift import needs_apply
from forebay_operator.environment import find_misspelt, known_names
from forebay_operator.resources import build_deployment, build_key_secret, build_service
from forebay_operator.resources.meta import find_controller
from forebay_operator.settings import Settings
from forebay_operator.status import Observed, assess, assess_invalid
from forebay_operator.types import Endpoint, InvalidSpec, Manifest, parse_endpoint

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

    def __init__(self, cluster: Cluster, cache: Cache, settings: Settings) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings

    async def reconcile(self, key: Key) -> bool:
        """Reconcile one endpoint. Returns whether all is done; if not, call again later.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        manifest = self._cache.endpoint(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return True
        previous = manifest.get("status") or {}
        try:
            endpoint = parse_endpoint(manifest)
        except InvalidSpec as error:
            generation = manifest["metadata"].get("generation", 0)
            status = assess_invalid(generation, error.problems, previous, datetime.now(UTC))
            await self._write_status(manifest, previous, status)
            return True
        deployment, done, problem = self._cache.deployment(key), True, None
        try:
            deployment = await self._make_children(endpoint)
        except Unmade as error:
            logger.warning("endpoint %s/%s: %s", *key, error)
            done, problem = not error.retry, error.diagnosis
        misspelt = find_misspelt(endpoint.env, known_names())
        observed = Observed(deployment, self._cache.pods_of(key), problem, misspelt)
        await self._write_status(manifest, previous, assess(endpoint, observed, previous, datetime.now(UTC)))
        return done

    async def _make_children(self, endpoint: Endpoint) -> Manifest:
        """Make all that the endpoint consists of. Returns its Deployment as it is now."""
        if endpoint.model.kind == "image" and self._settings.kubernetes_minor < IMAGE_VOLUME_MINOR:
            found = f"model images need Kubernetes 1.{IMAGE_VOLUME_MINOR}; this is 1.{self._settings.kubernetes_minor}"
            remedy = "Give a Hugging Face id in spec.model, or upgrade the cluster"
            raise Unmade(Diagnosis("ImageVolumeUnsupported", found, remedy, stalled=True), retry=False)
        await self._ensure_key_secret(endpoint)
        await self._ensure(endpoint, build_service(endpoint), self._cache.service((endpoint.namespace, endpoint.name)))
        cached = self._cache.deployment((endpoint.namespace, endpoint.name))
        return await self._ensure(endpoint, build_deployment(endpoint, self._settings), cached)

    async def _ensure_key_secret(self, endpoint: Endpoint) -> None:
        """Make the key Secret when it is missing. One that exists keeps its key, whatever it holds."""
        if endpoint.auth.mode == "None":
            return
        name = endpoint.auth.secret_name
        if not name:
            desired = build_key_secret(endpoint)
            live = await self._cluster.get("Secret", endpoint.namespace, desired["metadata"]["name"])
            if live:
                _check_owner(endpoint, live)
            else:
                await _explain_refusal(self._cluster.create(desired), "Secret")
        elif await self._cluster.get("Secret", endpoint.namespace, name) is None:
            found = f"the Secret {name} that spec.auth.secretName names does not exist"
            remedy = f"Make it in namespace {endpoint.namespace} with one key of at least 16 characters an entry"
            raise Unmade(Diagnosis("SecretMissing", found, remedy), retry=True)

    async def _ensure(self, endpoint: Endpoint, desired: Manifest, cached: Manifest | None) -> Manifest:
        """Make a child or mend it, and write nothing when it is right."""
        kind, name = desired["kind"], desired["metadata"]["name"]
        live = cached or await self._cluster.get(kind, endpoint.namespace, name)
        if live is not None:
            _check_owner(endpoint, live)
            if not needs_apply(desired, live):
                return live
        return await _explain_refusal(self._apply(desired, live), kind)

    async def _apply(self, desired: Manifest, live: Manifest | None) -> Manifest:
        """Server-side apply, which merges a Service's ports by number: it can't take away one that somebody
        renumbered under our name, and is refused. Then the ports are replaced first.
        """
        try:
            return await self._cluster.apply(desired)
        except ApiError as error:
            if error.status != 422 or live is None or desired["kind"] != "Service":
                raise
        await self._cluster.merge(desired, {"spec": {"ports": desired["spec"]["ports"]}})
        return await self._cluster.apply(desired)

    async def _write_status(self, manifest: Manifest, previous: Manifest, status: Manifest) -> None:
        if status == previous:
            return
        metadata = manifest["metadata"]
        await self._cluster.apply_status(metadata["namespace"], metadata["name"], metadata["uid"], status)


async def _explain_refusal(request: Awaitable[T], kind: str) -> T:
    """Await a write; when the API server refuses it for good, tell the user in its words."""
    try:
        return await request
    except ApiError as error:
        if error.status not in (400, 403, 422):
            raise
        remedy = "Change what it names; the operator tries again by itself"
        raise Unmade(Diagnosis("Refused", f"the {kind} was refused: {error.message}", remedy), retry=True) from error


def _check_owner(endpoint: Endpoint, live: Manifest) -> None:
    """Raise unless the object is this endpoint's own: what others made is never written to."""
    owner = find_controller(live)
    if owner and owner["uid"] == endpoint.uid:
        return
    thing = f"{live.get('kind', 'object')} {live['metadata']['name']}"
    if owner and owner["kind"] == names.KIND and owner["name"] == endpoint.name:
        found = f"the {thing} of a deleted endpoint of this name is still there"
        raise Unmade(Diagnosis("WaitingForDeletion", found), retry=True)
    remedy = "Delete or rename it, or give the endpoint another name"
    found = f"the {thing} already exists and does not belong to this endpoint"
    raise Unmade(Diagnosis("NotOwned", found, remedy, stalled=True), retry=True)
