"""The operator's Reconciler in the test's own process, against the real API server: one endpoint and all that it has.

What the work queue and the watches do is done here step by step: read the cache, reconcile, again after a failure, and
with an empty memory after a kill.
"""

import json
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from forebay_kube import names
from forebay_kube.api_client import ApiClient, ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.apiserver.cache import Cache
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
from forebay_operator.spec import Manifest
from forebay_operator.upgrades.coordinator import UpgradeCoordinator
from tests.integration.faulty_api import FaultyApi, Killed

SETTINGS = Settings(gpu_image="gpu-server:1", cpu_image="cpu-server:1", overlay_image="forebay-server:1")

ENDPOINTS = f"apis/{names.GROUP}/{names.VERSION}"
CHILDREN = {
    "Deployment": ("apis/apps/v1", "deployments"),
    "Service": ("api/v1", "services"),
    "Secret": ("api/v1", "secrets"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices"),
    "HTTPRoute": (f"apis/{labels.ROUTE_API}", "httproutes"),
}
"""Kinds of which an endpoint may have objects, with their place in the API."""

GATEWAY = "198.51.100.1"
"""The address of a gateway that gets no requests."""

MAX_ROUNDS = 10
"""Reconciles within which a fixed point is reached, whatever happens in one of them."""

_DIGESTS = (
    labels.APPLIED_ANNOTATION,
    labels.TEMPLATE_ANNOTATION,
    labels.UNWATCHED_ANNOTATION,
    "deployment.kubernetes.io/revision",
)
_SERVERS = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")
"""Metadata that the API server makes."""


class Administrator:
    """The actions of a user and of the other controllers, without faults, in one namespace."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    async def get(self, name: str) -> Manifest | None:
        """The endpoint as it is now."""
        try:
            found: Manifest = await self._api.request("GET", self._endpoint(name))
        except ApiServerError as error:
            if error.status != 404:
                raise
            return None
        return found

    async def create(self, manifest: Manifest) -> None:
        """Make an endpoint."""
        await self._api.request("POST", self._endpoint(), body=manifest)

    async def change(self, name: str, spec: Manifest) -> None:
        """Change an endpoint's spec by a JSON merge patch."""
        content_type = "application/merge-patch+json"
        await self._api.request("PATCH", self._endpoint(name), body={"spec": spec}, content_type=content_type)

    async def delete(self, name: str) -> None:
        """Delete an endpoint; its children are left to the garbage collector."""
        await self._api.request("DELETE", self._endpoint(name))

    async def children(self, kind: str, name: str = "") -> list[Manifest]:
        """All objects of a kind that carry the endpoint's label, or that of any endpoint."""
        group, plural = CHILDREN[kind]
        selectors = [f"{labels.ENDPOINT_LABEL}={name}" if name else labels.ENDPOINT_LABEL]
        if kind == "EndpointSlice":  # Kubernetes' own inherit the labels of their Service
            selectors.append(labels.SELECTORS[kind])
        query = {"labelSelector": ",".join(selectors)}
        found = await self._api.request("GET", f"/{group}/namespaces/{self.namespace}/{plural}", query=query)
        return [{"apiVersion": found["apiVersion"], "kind": kind, **item} for item in found["items"]]

    async def read_cache(self, name: str) -> Cache:
        """The cache that complete watches of a suspended endpoint would have filled."""
        key: EndpointKey = self.namespace, name
        endpoint = await self.get(name)
        kinds = "Deployment", "Service", "EndpointSlice"
        deployments, services, slices = [await self.children(kind, name) for kind in kinds]
        return Cache({key: [endpoint]} if endpoint else {}, {key: deployments}, {key: services}, {}, {key: slices})

    def _endpoint(self, name: str = "") -> str:
        return f"/{ENDPOINTS}/namespaces/{self.namespace}/{names.PLURAL}/{name}".rstrip("/")


class InProcessOperator:
    """Reconciles one endpoint until no work is left, despite any faults.

    Attributes:
        recorded_reasons: the reasons of the events.
    """

    def __init__(self, api: FaultyApi, administrator: Administrator, name: str) -> None:
        self.api = api
        self.recorded_reasons: list[str] = []
        self._administrator = administrator
        self._name = name
        self._cache = Cache({}, {}, {}, {}, {})
        self._start()

    def _start(self) -> None:
        """A process of the operator: its memory is empty."""

        async def drop(manifest: Manifest, patch: Manifest | None) -> bool:
            return True

        def ignore(*_: Any) -> None: ...

        cluster, events = Cluster(self.api), EventRecorder(drop)
        events.record = self._hear  # type: ignore[method-assign]
        gateways, digests = self._stand_ins(cluster)
        self._reconciler = Reconciler(
            cluster,
            self._cache,
            SETTINGS,
            StatusWriter(cluster, events, ignore),
            startup_poller=StartupPoller(ignore),
            slice_writer=SliceWriter(cluster, self._cache, gateways),
            digests=digests,
            autoscaler=Autoscaler(cluster, None, events.record),
            upgrades=UpgradeCoordinator(SETTINGS.upgrades, ignore),
        )

    def _stand_ins(self, cluster: Cluster) -> tuple[Gateways, KeyDigestSync]:
        """One gateway that is ready. The digests are not written, as that is done for all endpoints together."""
        gateways = Gateways(cluster, "forebay-system", "forebay-gateway")
        gateways.addresses = (GATEWAY,)
        return gateways, KeyDigestSync(cluster, "forebay-system", WatchedEndpoints(list, (), lambda _: None))

    def _hear(self, key: EndpointKey, uid: str, reason: str, message: str, warning: bool) -> None:
        self.recorded_reasons.append(reason)

    async def settle(self, stale: int = 0) -> None:
        """Reconcile until a round with a fresh cache has nothing to write. After a failure the cache stays as it was
        for `stale` rounds.

        Raises:
            AssertionError: that was never so.
        """
        await self._see()
        fresh = True
        for _ in range(MAX_ROUNDS):
            before, was_fresh, fresh = self.api.writes, fresh, True
            try:
                await self._reconciler.reconcile((self._administrator.namespace, self._name))
            except ApiServerError:
                before = -1
                if stale:
                    stale, fresh = stale - 1, False
                    continue
            except Killed:
                before = -1
                self._start()
            await self._see()
            if was_fresh and self.api.writes == before:
                return
        raise AssertionError(f"still something to write after {MAX_ROUNDS} rounds")

    async def check_in_full(self) -> int:
        """Reconcile once without trust in the cache; returns how many writes that needed."""
        before = self.api.writes
        key = (self._administrator.namespace, self._name)
        self._reconciler.force_refresh(key)
        await self._reconciler.reconcile(key)
        return self.api.writes - before

    async def _see(self) -> None:
        """Let the watches catch up."""
        seen = await self._administrator.read_cache(self._name)
        for field in ("endpoints", "deployments", "services", "slices"):
            index = getattr(self._cache, field)
            index.clear()
            index.update(getattr(seen, field))


def normalize(manifest: Manifest, name: str, uid: str) -> Manifest:
    """An object without what differs between two endpoints that were made in the same way: names, times, digests."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _SERVERS}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _DIGESTS}
    spec = {key: value for key, value in manifest.get("spec", {}).items() if key not in ("clusterIP", "clusterIPs")}
    kept = {key: value for key, value in manifest.items() if key not in ("metadata", "spec", "status", "data")}
    data = {key: len(value) for key, value in manifest.get("data", {}).items()}
    whole = {**kept, "metadata": {**metadata, "annotations": annotations}, "spec": spec, "data": data}
    text = re.sub(r'"forebay.dev/revision": "[0-9a-f]+"', '"forebay.dev/revision": ""', json.dumps(whole))
    return dict(json.loads(text.replace(uid, "UID").replace(name, "NAME")))


def normalize_status(status: Manifest, name: str) -> Manifest:
    """A status without what differs between two endpoints that were made in the same way: names and times."""
    timeless = [{**one, "lastTransitionTime": ""} for one in status["conditions"]]
    return dict(json.loads(json.dumps({**status, "conditions": timeless}).replace(name, "NAME")))


def find_flapping(statuses: Sequence[Manifest]) -> list[str]:
    """The conditions that returned to an earlier value."""
    flapping = []
    for kind in {condition["type"] for status in statuses for condition in status["conditions"]}:
        values = [one["status"] for status in statuses for one in status["conditions"] if one["type"] == kind]
        runs = [value for value, _ in groupby(values)]
        if len(runs) != len(set(runs)):
            flapping.append(f"{kind}: {' '.join(runs)}")
    return flapping
