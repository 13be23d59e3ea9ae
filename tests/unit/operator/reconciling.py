"""A reconciler on a fake API server, with a cache that catches up when a test says so."""

import copy
from collections.abc import Callable, Mapping

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.apiserver.cache import Cache, key_of
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.apiserver.event_recorder import EventRecorder
from forebay_operator.autoscaling.autoscaler import Autoscaler
from forebay_operator.controller.reconciler import Reconciler
from forebay_operator.controller.status_writer import StatusWriter
from forebay_operator.gateway_slices.slice_writer import SliceWriter
from forebay_operator.keys.key_digest_sync import KeyDigestSync, WatchedEndpoints
from forebay_operator.pods.gateways import Gateways
from forebay_operator.pods.startup_poller import StartupPoller
from forebay_operator.settings import Settings
from forebay_operator.status.start_progress import Report
from forebay_operator.upgrades.coordinator import UpgradeCoordinator
from tests.unit.operator.fake_api_server import FakeApiServer, names_of

SETTINGS = Settings(gpu_image="gpu:1", cpu_image="cpu:1", overlay_image="forebay-server:1", kubernetes_minor=35)


def build_reconciler(
    server: FakeApiServer,
    cache: Cache,
    key: EndpointKey,
    clock: Callable[[], float],
    *,
    reports: Mapping[str, Report] | None = None,
    settings: Settings = SETTINGS,
    upgrades: UpgradeCoordinator | None = None,
) -> tuple[Reconciler, Gateways]:
    """A reconciler without memory, as when the operator starts, and the gateways that it knows."""

    async def drop(manifest: object, patch: object) -> bool:
        return True

    cluster = Cluster(server)
    poller = StartupPoller(lambda _: None)
    poller.of = lambda key: {} if reports is None else reports  # type: ignore[method-assign]
    status_writer = StatusWriter(cluster, EventRecorder(drop), lambda *_: None, clock)
    gateways = Gateways(cluster, "forebay-system", "gateway")
    digests = KeyDigestSync(cluster, "forebay-system", WatchedEndpoints(lambda: [key], (), lambda _: None))
    slice_writer = SliceWriter(cluster, cache, gateways)
    autoscaler = Autoscaler(cluster, gateways, lambda *_: None)
    reconciler = Reconciler(
        cluster,
        cache,
        settings,
        status_writer,
        startup_poller=poller,
        slice_writer=slice_writer,
        digests=digests,
        autoscaler=autoscaler,
        upgrades=upgrades or UpgradeCoordinator(settings.upgrades, lambda _: None),
    )
    return reconciler, gateways


def catch_up(cache: Cache, server: FakeApiServer, key: EndpointKey) -> None:
    """Fill the cache with what the API server has of an endpoint."""
    for plural, index in (
        (names.PLURAL, cache.endpoints),
        ("deployments", cache.deployments),
        ("services", cache.services),
        ("pods", cache.pods),
        ("endpointslices", cache.slices),
    ):
        found = [copy.deepcopy(server.objects[plural, name]) for name in names_of(server.objects, plural)]
        index.clear()  # type: ignore[attr-defined]
        index[key] = [one for one in found if key_of(one) == key]  # type: ignore[index]
