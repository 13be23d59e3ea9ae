"""Writes all children of an endpoint, in the order of their dependencies. The reconciler calls it.

`apiserver.children` writes a single child. This module also decides when the unwatched children are read again.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.apiserver.cache import Cache
from forebay_operator.apiserver.children import (
    ReconcileError,
    apply_child,
    check_owner,
    create_key_secret,
    create_secret,
    remove,
)
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.autoscaling.autoscaler import Autoscaler
from forebay_operator.controller.status_writer import StatusWriter
from forebay_operator.gateway_slices.slice_writer import SliceWriter
from forebay_operator.keys.key_digest_sync import KeyDigestSync
from forebay_operator.resources import build_deployment, build_service, build_unwatched, list_obsolete
from forebay_operator.resources.meta import digest
from forebay_operator.resources.pod_template.overlay import choose_overlay
from forebay_operator.resources.pod_template.pod_spec import choose_image
from forebay_operator.resources.secret import build_control_secret
from forebay_operator.resources.template import is_outdated, keep_template, replace_template
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest
from forebay_operator.status.diagnosis import Diagnosis, reasons
from forebay_operator.status.observed import Observed
from forebay_operator.upgrades.coordinator import UpgradeCoordinator
from forebay_operator.upgrades.member import is_complete

SWITCH_AGE = 0.5
"""Seconds between two checks whether a Service already leads to its pods, so that its gateway slices can be emptied."""

IMAGE_VOLUME_MINOR = 35
"""Kubernetes 1.35 is the first that mounts images as volumes without a feature gate."""


class ChildWriter:
    """The children of all endpoints. Without gateways, `digests` is None."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        settings: Settings,
        *,
        status_writer: StatusWriter,
        slice_writer: SliceWriter,
        digests: KeyDigestSync | None,
        autoscaler: Autoscaler,
        upgrades: UpgradeCoordinator,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._status_writer = status_writer
        self._slice_writer = slice_writer
        self._digests = digests
        self._autoscaler = autoscaler
        self._upgrades = upgrades
        self._upgraded: dict[EndpointKey, int] = {}
        """The generation of each Deployment after its upgrade. The cache may still have an earlier one."""
        self._created: dict[EndpointKey, str] = {}
        """Uids of endpoints whose children have all existed at some time. If a child of such an endpoint is missing
        now, it was deleted."""

    def forget(self, key: EndpointKey) -> None:
        """Drop the state of an endpoint that no longer exists."""
        self._created.pop(key, None)
        self._upgraded.pop(key, None)
        if self._digests:
            self._digests.drop(key)

    async def apply(self, endpoint: Endpoint, observed: Observed, force_refresh: bool) -> tuple[Manifest, bool]:
        """Create or correct all children of the endpoint.

        Returns its Deployment as it is now, and whether its pod template is outdated.

        Args:
            observed: the observed state of the endpoint's pods and Deployment.
            force_refresh: whether to bypass the cache.

        Raises:
            ApiServerError: the API server did not answer.
            ReconcileError: a child cannot be created, or the API server refused it.
        """
        key = endpoint.namespace, endpoint.name
        overlay = choose_overlay(endpoint, self._settings)
        if overlay == "ImageVolume":
            await self._check_image_volumes("the overlay ImageVolume needs")
        if any(source.kind == "image" for source in endpoint.sources):
            await self._check_image_volumes("model images need")
        exists = observed.deployment is not None or self._created.get(key) == endpoint.uid
        # before the Deployment, so that the gateways receive requests before the last pod ends
        slice_error = await self._apply_gateway_slices(endpoint, observed, force_refresh, exists)
        if not choose_image(endpoint, self._settings):
            raise ReconcileError(_missing_image(endpoint), retry=False)
        if overlay != "None" and not self._settings.overlay_image:
            problem = f"the overlay {overlay} needs an image of Forebay's server, and the operator has no such image"
            raise ReconcileError(reasons.NO_OVERLAY_IMAGE.diagnose(problem), retry=False)
        unwatched = build_unwatched(endpoint, self._settings)
        unwatched_digest = digest({"auth": vars(endpoint.auth), "children": unwatched})
        stuck, live = observed.stuck_revisions, observed.deployment
        draft = build_deployment(endpoint, self._settings, stuck, unwatched_digest, live)
        if (
            force_refresh
            or not exists
            or find_unwatched_digest(observed.deployment) != unwatched_digest
            or (self._digests and self._digests.lacks(key))
        ):
            await self._apply_unwatched(endpoint, unwatched, exists)
        cached = (None, None) if force_refresh else (self._cache.service(key), self._cache.deployment(key))
        await apply_child(self._cluster, endpoint, build_service(endpoint), cached[0], exists)
        deployment, outdated = await self._apply_deployment(endpoint, observed, draft, cached[1], exists)
        self._created[key] = endpoint.uid
        if slice_error:
            raise slice_error
        return deployment, outdated

    def is_outdated(self, endpoint: Endpoint, observed: Observed) -> bool:
        """Whether the pod template of the endpoint's Deployment is outdated. `apply` returns the same if it
        succeeds."""
        live = observed.deployment
        return live is not None and is_outdated(endpoint, build_deployment(endpoint, self._settings), live)

    async def _apply_deployment(
        self, endpoint: Endpoint, observed: Observed, draft: dict[str, Any], cached: Manifest | None, exists: bool
    ) -> tuple[Manifest, bool]:
        """Apply the Deployment. The wave of upgrades decides whether an outdated pod template is replaced or kept.

        Returns the Deployment, and whether its pod template is outdated.
        """
        key = endpoint.namespace, endpoint.name
        live = await self._read_deployment(endpoint, draft, cached, exists)
        complete = is_complete(
            endpoint, replace(observed, deployment=live), asleep=bool(self._autoscaler.is_asleep(key))
        )
        replaced = partial(replace_template, endpoint, draft, live, is_complete=complete)
        if live is None or not is_outdated(endpoint, draft, live):
            desired = replaced(begins_upgrade=False)
            return await apply_child(self._cluster, endpoint, desired, live, exists), False
        decision = self._upgrades.decide(key)
        if not decision.allowed or (not decision.takes_slot and endpoint.wanted and observed.serving):
            kept = keep_template(endpoint, draft, live, observed.stuck_revisions)
            return await apply_child(self._cluster, endpoint, kept, live, exists), True
        if decision.takes_slot:
            self._upgrades.begin(key)
        desired = replaced(begins_upgrade=decision.takes_slot)
        deployment = await apply_child(self._cluster, endpoint, desired, live, exists)
        self._upgraded[key] = deployment["metadata"].get("generation", 0)
        return deployment, False

    async def _read_deployment(
        self, endpoint: Endpoint, draft: Manifest, cached: Manifest | None, exists: bool
    ) -> Manifest | None:
        """Return the live Deployment, or None if it does not exist.

        The Deployment is read from the API server if the cache lacks it, or has it with an earlier template.

        Raises:
            ReconcileError: the Deployment belongs to another owner.
        """
        key = endpoint.namespace, endpoint.name
        lags = cached is not None and cached["metadata"].get("generation", 0) < self._upgraded.get(key, 0)
        live = cached
        if cached is None and not exists:
            return None
        if cached is None or (lags and is_outdated(endpoint, draft, cached)):
            live = await self._cluster.get("Deployment", endpoint.namespace, endpoint.name)
        if live is not None:
            check_owner(endpoint, live)
        return live

    async def _apply_unwatched(self, endpoint: Endpoint, unwatched: Sequence[Manifest], exists: bool) -> None:
        """Apply the children that are not watched: the Secrets and `unwatched`. Remove unwatched children of an earlier
        spec."""
        key = endpoint.namespace, endpoint.name
        secret, replaced = await self._create_keys(endpoint, exists)
        if self._digests:
            self._digests.put(key, secret)
        if replaced:
            message = "the Secret with the key was deleted; callers now need the key in the new Secret"
            self._status_writer.events.record(key, endpoint.uid, "KeyReplaced", message, warning=True)
        await create_secret(self._cluster, endpoint, build_control_secret(endpoint), exists)
        for child in unwatched:
            await apply_child(self._cluster, endpoint, child, None, exists)
        for kind, name in list_obsolete(endpoint, self._settings) if exists else ():
            await remove(self._cluster, endpoint, kind, name)

    async def _apply_gateway_slices(
        self, endpoint: Endpoint, observed: Observed, force_refresh: bool, exists: bool
    ) -> ReconcileError | None:
        """Write the slices that lead to gateways. Returns a refusal, and does not raise it, because an endpoint with
        pods runs without the slices.

        Raises:
            ReconcileError: the API server refused, and the endpoint wants no pods.
        """
        asleep = self._autoscaler.is_asleep((endpoint.namespace, endpoint.name))
        serving = bool(endpoint.wanted) and observed.serving and not asleep
        try:
            in_sync = await self._slice_writer.apply_slices(endpoint, serving, force_refresh, exists)
        except ReconcileError as error:
            if not endpoint.wanted:
                raise
            return error
        if not in_sync:
            self._status_writer.requeue_after((endpoint.namespace, endpoint.name), SWITCH_AGE)
        return None

    async def _create_keys(self, endpoint: Endpoint, exists: bool) -> tuple[Manifest | None, bool]:
        """Call create_key_secret. While the user's own Secret is missing, no key is valid for the endpoint."""
        try:
            return await create_key_secret(self._cluster, endpoint, exists)
        except ReconcileError:
            if self._digests:
                self._digests.put((endpoint.namespace, endpoint.name), None)
            raise

    async def _check_image_volumes(self, what_needs: str) -> None:
        """Raise ReconcileError unless the cluster mounts images as volumes.

        If the known version of the cluster is too old, it is read again, because the cluster may have been upgraded.
        """
        minor = self._settings.kubernetes_minor
        if minor < IMAGE_VOLUME_MINOR:
            minor = await self._cluster.get_minor_version()
        if minor < IMAGE_VOLUME_MINOR:
            message = f"{what_needs} Kubernetes 1.{IMAGE_VOLUME_MINOR}; this is 1.{minor}"
            raise ReconcileError(reasons.IMAGE_VOLUME_UNSUPPORTED.diagnose(message), retry=True)


def _missing_image(endpoint: Endpoint) -> Diagnosis:
    kind, value = ("GPUs", "server.gpuImage") if endpoint.gpu.count else ("gpu.count 0", "server.cpuImage")
    return reasons.NO_SERVER_IMAGE.diagnose(f"the operator has no server image for endpoints with {kind}", value=value)


def find_unwatched_digest(deployment: Manifest | None) -> str | None:
    """The digest of the unwatched children, from the annotation that was set when the Deployment was applied."""
    annotations = ((deployment or {}).get("metadata") or {}).get("annotations") or {}
    return annotations.get(labels.UNWATCHED_ANNOTATION)
