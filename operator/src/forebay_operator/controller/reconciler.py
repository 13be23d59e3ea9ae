"""Reconciles one endpoint: creates and corrects its children, diagnoses its pods, and writes its status.

The workers call it. Its phases are the methods that `_run_phases` lists.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from forebay_kube import names
from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey, key_of_endpoint
from forebay_kube.object_conditions import find_condition
from forebay_operator.apiserver.cache import Cache
from forebay_operator.apiserver.children import ReconcileError
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.apiserver.node_list import NodeList
from forebay_operator.apiserver.replicas_defaulting import fill_in_replicas
from forebay_operator.autoscaling.autoscaler import Autoscaler, find_scaled_endpoint
from forebay_operator.controller.child_writer import ChildWriter, find_unwatched_digest
from forebay_operator.controller.http_routes import HTTPRoutes
from forebay_operator.controller.status_writer import StatusWriter
from forebay_operator.gateway_slices.slice_writer import SliceWriter
from forebay_operator.keys.key_digest_sync import KeyDigestSync
from forebay_operator.pods.startup_poller import StartupPoller
from forebay_operator.resources.kept_defaults import choose_defaults
from forebay_operator.resources.meta import find_controller
from forebay_operator.resources.route import ROUTE_CONDITION, route_id
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, InvalidSpec, Manifest, complete_endpoint, parse_endpoint
from forebay_operator.spec.replicas import choose_replicas, lacks_replicas
from forebay_operator.status.addresses import list_addresses
from forebay_operator.status.conditions import assess, assess_invalid
from forebay_operator.status.diagnosis import Diagnosis, reasons
from forebay_operator.status.diagnosis.gpus import needs_nodes
from forebay_operator.status.diagnosis.preparing import PREPARING_GRACE, find_preparing
from forebay_operator.status.env_warnings import find_env_warnings, names_in_pod
from forebay_operator.status.observed import Observed
from forebay_operator.status.pod_variables import choose_differences
from forebay_operator.status.readiness import find_pod_failure, find_slow_start
from forebay_operator.status.start_progress import ended_run_of, find_unread, run_of
from forebay_operator.upgrades.coordinator import UpgradeCoordinator
from forebay_operator.upgrades.member import find_member
from forebay_operator.upgrades.wave import build_condition

logger = logging.getLogger(__name__)

EVENTS_AGE = 20.0
"""Seconds after which the events of a pod that is still being prepared are read again."""

MISSING_CHILD_REASONS = frozenset({reasons.SECRET_MISSING.name, reasons.PVC_MISSING.name})
"""Failures of pods that a deleted, unwatched child may cause."""


class Reconciler:
    """Reconciles endpoints by key. Any number of reconciles may run concurrently, for different keys.

    Without gateways, `digests` is None.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        settings: Settings,
        status_writer: StatusWriter,
        *,
        startup_poller: StartupPoller,
        slice_writer: SliceWriter,
        digests: KeyDigestSync | None,
        autoscaler: Autoscaler,
        upgrades: UpgradeCoordinator,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings
        self._status_writer = status_writer
        self._startup_poller = startup_poller
        self._slice_writer = slice_writer
        self._autoscaler = autoscaler
        self._upgrades = upgrades
        self._nodes = NodeList(cluster)
        self._routes = HTTPRoutes(cluster, settings)
        self._children = ChildWriter(
            cluster,
            cache,
            settings,
            status_writer=status_writer,
            slice_writer=slice_writer,
            digests=digests,
            autoscaler=autoscaler,
            upgrades=upgrades,
        )
        self._to_refresh: set[EndpointKey] = set()
        """Endpoints whose next pass bypasses the cache."""

    def force_refresh(self, key: EndpointKey) -> None:
        """Bypass the cache for this endpoint and its children, until a pass has succeeded.

        A watch that was interrupted may have missed a deletion.
        """
        self._to_refresh.add(key)

    async def reconcile(self, key: EndpointKey) -> bool:
        """Reconcile one endpoint. Returns False if it has to be called again later.

        Raises:
            ApiServerError: the API server refused or did not answer.
        """
        force_refresh, done = key in self._to_refresh, False
        self._to_refresh.discard(key)
        try:
            done = await self._run_phases(key, force_refresh)
        finally:
            if force_refresh and not done:
                self._to_refresh.add(key)
        return done

    async def _run_phases(self, key: EndpointKey, force_refresh: bool) -> bool:
        manifest = await self._load(key, force_refresh)
        if manifest is None:
            self._forget(key)
            return True
        deployment = _own(manifest, self._cache.deployment(key))
        observed = Observed(deployment, self._cache.pods_of(key), reports=self._startup_poller.of(key))
        before = self._status_writer.status_before(manifest)
        if lacks_replicas(manifest):
            if force_refresh:
                self.force_refresh(key)  # this pass does not read the children
            return await self._fill_in_replicas(manifest, before, observed, force_refresh)
        try:
            parsed = parse_endpoint(manifest, self._settings.inheritance)
        except InvalidSpec as error:
            problem = reasons.INVALID_SPEC.diagnose(str(error))
            await self._report_unusable(manifest, before, observed, problem, force_refresh)
            return True
        endpoint = complete_endpoint(parsed, choose_defaults(parsed, self._settings, deployment))
        run = _Pass(key, endpoint, manifest, before, force_refresh, observed)
        for phase in (
            self._make_children,
            self._make_route,
            self._observe,
            self._diagnose,
            self._follow_upgrade,
            self._write_status,
            self._follow_up,
        ):
            await phase(run)
        return run.done

    async def _load(self, key: EndpointKey, force_refresh: bool) -> Manifest | None:
        """The endpoint, or None if it no longer exists or is being deleted."""
        manifest = self._cache.endpoint(key)
        if force_refresh and manifest is not None:
            manifest = await self._cluster.get(names.KIND, *key)
        return None if manifest is None or manifest["metadata"].get("deletionTimestamp") else manifest

    async def _fill_in_replicas(
        self, manifest: Manifest, before: Manifest, observed: Observed, force_refresh: bool
    ) -> bool:
        """Write the number of replicas into a spec that has no number. Returns whether the number was written.

        Nothing else is reconciled until the spec has the number.
        """
        try:
            return await fill_in_replicas(self._cluster, manifest, choose_replicas(before))
        except ReconcileError as error:
            await self._report_unusable(manifest, before, observed, error.diagnosis, force_refresh)
            return False

    async def _report_unusable(
        self, manifest: Manifest, before: Manifest, observed: Observed, problem: Diagnosis, force_refresh: bool
    ) -> None:
        """Write a status that says why the spec cannot be used. The children stay as they are."""
        self._autoscaler.follow(key_of_endpoint(manifest), None)
        self._upgrades.follow(key_of_endpoint(manifest), None)
        await self._slice_writer.maintain_slices(manifest, observed.serving, force_refresh)
        status = assess_invalid(manifest, replace(observed, error=problem), before, datetime.now(UTC))
        await self._status_writer.write(manifest, before, status)

    async def _make_children(self, run: "_Pass") -> None:
        """Apply the children. A refusal becomes `observed.error`."""
        try:
            before = find_unwatched_digest(run.observed.deployment)
            deployment, run.outdated = await self._children.apply(run.endpoint, run.observed, run.force_refresh)
            run.observe(deployment=deployment)
            run.changed = find_unwatched_digest(deployment) != before
        except ReconcileError as error:
            logger.warning("endpoint %s/%s: %s", *run.key, error)
            run.done = not error.retry
            run.observe(error=error.diagnosis)

    async def _make_route(self, run: "_Pass") -> None:
        """Apply the HTTPRoute. Its failure is a condition of its own and stops no other phase.

        The route is not watched. A change of the other unwatched children may come from inherited labels, which the
        route needs too. So the route is then applied again.
        """
        previous = find_condition(run.before, ROUTE_CONDITION) or None
        is_new = run.changed or "addresses" not in run.before  # written by a release without addresses
        force_refresh = run.force_refresh or (is_new and previous is not None)
        route = await self._routes.apply_route(run.endpoint, previous, force_refresh)
        run.done = run.done and route.is_final
        run.route_urls = route.urls
        run.observe(conditions=[route.condition] if route.condition else [])

    async def _observe(self, run: "_Pass") -> None:
        """Add the facts besides pods and Deployment: warnings about env, gateways, addresses, sleep, jobs."""
        env = run.endpoint.own_env
        differences = choose_differences(env, run.observed, run.before.get("lastStart") or {})
        run.observe(
            env_warnings=find_env_warnings(env, *names_in_pod(differences)),
            scales=run.endpoint.scaling is not None,
            gateways=self._slice_writer.gateways,
            addresses=self._list_addresses(run),
            asleep=self._is_asleep(run.key, run.endpoint, run.before),
            jobs=self._autoscaler.jobs(run.key),
        )

    def _list_addresses(self, run: "_Pass") -> list[Manifest]:
        """List the URLs of the endpoint. If the Gateways were not read, the route's URLs in the status stay."""
        service = _own(run.manifest, self._cache.service(run.key))
        return list_addresses(
            run.endpoint,
            service,
            path_id=route_id(run.endpoint, self._settings),
            gateways=self._settings.gateway_urls,
            routes=run.route_urls or (),
            previous=run.before.get("addresses") or () if run.route_urls is None else (),
        )

    async def _diagnose(self, run: "_Pass") -> None:
        """Find the failure of the pods. Events and nodes are read only if they can add to the diagnosis."""
        run.failure = find_pod_failure(run.observed)
        if run.failure is None:
            run.observe(events=await self._read_events(run.key, run.observed))
            run.failure = find_slow_start(run.observed)
        if needs_nodes(run.failure, run.endpoint.gpu):
            nodes, newer_in = await self._nodes.read()
            run.observe(nodes=nodes)
            if nodes is not None and newer_in:
                self._status_writer.requeue_after(run.key, newer_in)

    async def _follow_upgrade(self, run: "_Pass") -> None:
        """Report the endpoint to the wave of upgrades, and add the condition UpToDate."""
        if run.observed.deployment is None:
            self._upgrades.follow(run.key, None)
            return
        outdated = self._children.is_outdated(run.endpoint, run.observed) if run.outdated is None else run.outdated
        mode = self._upgrades.default_mode
        member = find_member(run.endpoint, run.observed, run.failure, outdated=outdated, default_mode=mode)
        condition = build_condition(self._upgrades.follow(run.key, member), run.endpoint.generation)
        run.observe(conditions=[*run.observed.conditions, condition])

    async def _write_status(self, run: "_Pass") -> None:
        run.status = assess(run.endpoint, run.observed, run.failure, run.before, datetime.now(UTC))
        await self._status_writer.write(run.manifest, run.before, run.status)

    async def _follow_up(self, run: "_Pass") -> None:
        """Update the startup poller and the autoscaler, and request another pass if it is needed."""
        self._request_refresh(run)
        self._follow_starts(run.key, run.observed, run.status)
        self._autoscaler.follow(run.key, find_scaled_endpoint(run.endpoint, run.observed))

    def _forget(self, key: EndpointKey) -> None:
        """Drop the state of an endpoint that no longer exists."""
        self._children.forget(key)
        self._status_writer.forget(key)
        self._startup_poller.follow(key, {})
        self._slice_writer.forget(key)
        self._autoscaler.follow(key, None)
        self._upgrades.follow(key, None)

    def _request_refresh(self, run: "_Pass") -> None:
        """Request a pass without the cache if pods miss something that may be a child.

        If this pass already bypassed the cache, the next pass waits for EVENTS_AGE.
        """
        if run.observed.error is None and run.failure and run.failure.reason in MISSING_CHILD_REASONS:
            self.force_refresh(run.key)
            self._status_writer.requeue_after(run.key, EVENTS_AGE if run.force_refresh else 0.0)

    async def _read_events(self, key: EndpointKey, observed: Observed) -> Sequence[Manifest]:
        """Read the events of the pod that has waited longest for its volumes and its sandbox.

        Events are not watched, so they are read again in intervals while the pod waits.
        """
        preparing = find_preparing(observed.current_pods)
        if preparing is None:
            return ()
        pod, since = preparing
        waited = (datetime.now(UTC) - since).total_seconds()  # negative if this clock is behind the API server's
        early = PREPARING_GRACE - waited if waited >= 0 else 0.0
        self._status_writer.requeue_after(key, early if early > 0 else EVENTS_AGE)
        if early > 0:
            return ()
        try:
            return await self._cluster.list_events(pod["metadata"]["namespace"], pod["metadata"]["uid"])
        except ApiServerError as error:
            if error.status != 403:  # other failures end the pass: the status must not depend on them
                raise
            logger.info("events of %s/%s are not read: %s", *key, error)
            return ()

    def _follow_starts(self, key: EndpointKey, observed: Observed, status: Manifest) -> None:
        """Give the startup poller the pods to poll."""
        unread = find_unread(observed.current_pods, status.get("lastStart") or {}, observed.reports)
        addresses = {run_of(pod): pod["status"]["podIP"] for pod in unread if pod["status"].get("podIP")}
        self._startup_poller.follow(
            key, addresses, keep={run(pod) for pod in observed.current_pods for run in (run_of, ended_run_of)}
        )

    def _is_asleep(self, key: EndpointKey, endpoint: Endpoint, before: Manifest) -> bool:
        """Whether the endpoint's engines sleep. The status decides until the autoscaler has checked them."""
        if endpoint.scaling is None or not endpoint.scaling.sleeps:
            return False
        is_asleep = self._autoscaler.is_asleep(key)
        return find_condition(before, "Ready").get("reason") == "Idle" if is_asleep is None else is_asleep


@dataclass
class _Pass:
    """The state of one reconcile of one endpoint, which its phases pass on."""

    key: EndpointKey
    endpoint: Endpoint
    manifest: Manifest
    before: Manifest
    """The status before this pass."""
    force_refresh: bool
    observed: Observed
    outdated: bool | None = None
    """Whether the pod template is outdated; None if the children could not be applied."""
    failure: Diagnosis | None = None
    """The reason why pods do not serve."""
    status: Manifest = field(default_factory=dict)
    route_urls: Sequence[str] | None = ()
    """The URLs of the Gateways that have accepted the route; None if the Gateways were not read."""
    changed: bool = False
    """Whether this pass applied changed unwatched children."""
    done: bool = True

    def observe(self, **observations: Any) -> None:
        """Set fields of `observed`."""
        self.observed = replace(self.observed, **observations)


def _own(manifest: Manifest, child: Manifest | None) -> Manifest | None:
    """The child, or None if it belongs to another endpoint, such as a deleted one of the same name."""
    owner = find_controller(child) if child else None
    return child if owner and owner["uid"] == manifest["metadata"]["uid"] else None
