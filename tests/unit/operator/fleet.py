"""Several endpoints on a fake API server, with operators of several releases, and pods as Kubernetes runs them."""

import copy
from dataclasses import replace
from typing import Any

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.apiserver.cache import Cache, key_of
from forebay_operator.settings import Settings, UpgradeSettings
from forebay_operator.status.observed import is_ready
from forebay_operator.upgrades.coordinator import UpgradeCoordinator
from tests.kubectl import Manifest, condition
from tests.unit.operator.fake_api_server import NAMESPACE, FakeApiServer, names_of
from tests.unit.operator.reconciling import SETTINGS, build_reconciler
from tests.unit.operator.schema import PROPERTIES

ROUNDS, QUIET_ROUNDS = 60, 3
"""Rounds after which nothing is left to do; and rounds without a write that prove it."""


def release(number: int, **upgrades: object) -> Settings:
    """The settings of a release: another server image."""
    image = f"server:{number}"
    return replace(SETTINGS, gpu_image=image, cpu_image=image, upgrades=UpgradeSettings(**upgrades))  # type: ignore[arg-type]


class Fleet:
    """The endpoints of one namespace.

    Attributes:
        failing: the images that cannot start.
        most_at_once: the most endpoints whose serving pods were being replaced at the same time.
        restarted: the endpoints in the order in which they got another template.
    """

    def __init__(self, *endpoints: str) -> None:
        self.server = FakeApiServer(PROPERTIES["status"])
        self.failing: set[str] = set()
        self.most_at_once = 0
        self.restarted: list[str] = []
        self.now = 0.0
        for name in endpoints:
            self.put(name)

    def put(self, name: str, annotations: Manifest | None = None, **spec: Any) -> None:
        """Create an endpoint, or change its spec."""
        before = self.server.objects.get((names.PLURAL, name), {"metadata": {"name": name}, "spec": {}})
        metadata = {**before["metadata"], **({"annotations": annotations} if annotations else {})}
        fields = {"model": "org/model", "replicas": 1, **before["spec"], **spec}
        self.server.put(names.PLURAL, {**before, "metadata": metadata, "spec": fields})

    async def delete(self, name: str) -> None:
        """Delete an endpoint, with its children."""
        self.server.remove(names.PLURAL, name)
        for pod in self.pods(name):
            self.server.remove("pods", pod["metadata"]["name"])
        self._watch()
        await self.reconciler.reconcile((NAMESPACE, name))

    def start(self, settings: Settings) -> None:
        """Another operator takes over. It knows only the objects."""
        self.cache = Cache({}, {}, {}, {}, {})
        self.queue: set[EndpointKey] = set()
        self.upgrades = UpgradeCoordinator(settings.upgrades, self.queue.add)
        key: EndpointKey = (NAMESPACE, "unused")
        self.reconciler, gateways = build_reconciler(
            self.server, self.cache, key, lambda: self.now, settings=settings, upgrades=self.upgrades
        )
        gateways.addresses = ("10.1.0.1",)

    async def settle(self, settings: Settings | None = None, rounds: int = ROUNDS) -> None:
        """Let an operator and Kubernetes work until nothing changes. With `settings`, another operator takes over
        first."""
        if settings:
            self.start(settings)
            await self._reconcile_all()
        quiet = 0
        for _ in range(rounds):
            before = self.server.writes
            self.upgrades.plan()
            await self._reconcile_all()
            self._run_pods()
            quiet = quiet + 1 if self.server.writes == before else 0
            if quiet == QUIET_ROUNDS:
                return
        if rounds == ROUNDS:
            raise AssertionError(f"no fixed point after {ROUNDS} rounds")

    def image(self, name: str) -> str:
        """The server image in the pod template of an endpoint."""
        deployment = self.server.objects["deployments", name]
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    def images(self) -> dict[str, str]:
        """The release of each endpoint's pod template."""
        return {name: self.image(name).removeprefix("server:") for name in self._endpoints()}

    def up_to_date(self, name: str) -> Manifest:
        """The condition UpToDate of an endpoint."""
        return condition(self.server.objects[names.PLURAL, name], "UpToDate")

    def reasons(self) -> dict[str, str]:
        """The reason of UpToDate of each endpoint."""
        return {name: self.up_to_date(name)["reason"] for name in self._endpoints()}

    def pods(self, name: str) -> list[Manifest]:
        """The pods of an endpoint."""
        found = [self.server.objects["pods", pod] for pod in names_of(self.server.objects, "pods")]
        return [pod for pod in found if pod["metadata"]["labels"][labels.ENDPOINT_LABEL] == name]

    def _endpoints(self) -> list[str]:
        return sorted(names_of(self.server.objects, names.PLURAL))

    async def _reconcile_all(self) -> None:
        self.now += 60
        self.queue.clear()
        for name in self._endpoints():
            self._watch()
            await self.reconciler.reconcile((NAMESPACE, name))
        self._watch()

    def _watch(self) -> None:
        """Let the watches catch up."""
        for plural, index in (
            (names.PLURAL, self.cache.endpoints),
            ("deployments", self.cache.deployments),
            ("services", self.cache.services),
            ("pods", self.cache.pods),
            ("endpointslices", self.cache.slices),
        ):
            index.clear()  # type: ignore[attr-defined]
            for name in names_of(self.server.objects, plural):
                found = copy.deepcopy(self.server.objects[plural, name])
                index.setdefault(key_of(found), []).append(found)  # type: ignore[attr-defined]

    def _run_pods(self) -> None:
        """One step of Kubernetes: new pods are created and become ready, then old ones are removed."""
        rolling = 0
        for name in names_of(self.server.objects, "deployments"):
            rolling += self._run_pods_of(self.server.objects["deployments", name])
        self.most_at_once = max(self.most_at_once, rolling)

    def _run_pods_of(self, deployment: Manifest) -> bool:
        name, template = deployment["metadata"]["name"], deployment["spec"]["template"]
        revision = template["metadata"]["annotations"][labels.REVISION_ANNOTATION]
        image = template["spec"]["containers"][0]["image"]
        wanted = deployment["spec"]["replicas"]
        old = [pod for pod in self.pods(name) if not pod["metadata"]["name"].endswith(revision)]
        if not wanted:
            for pod in self.pods(name):
                self.server.remove("pods", pod["metadata"]["name"])
            return False
        for number in range(wanted):
            pod_name = f"{name}-{number}-{revision}"
            if ("pods", pod_name) not in self.server.objects and old:
                self.restarted.append(name)
            self.server.put("pods", _build_pod(pod_name, template, starts=image not in self.failing))
        if image not in self.failing:
            for pod in old:
                self.server.remove("pods", pod["metadata"]["name"])
        return any(map(is_ready, old))


def _build_pod(name: str, template: Manifest, starts: bool) -> Manifest:
    metadata = {**template["metadata"], "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    ready = [{"type": "Ready", "status": "True" if starts else "False"}]
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found: manifest unknown"}}
    container = {"name": "server", "ready": starts, "state": {"running": {}} if starts else waiting}
    status = {"phase": "Running", "conditions": ready, "containerStatuses": [container]}
    return {"metadata": metadata, "spec": template["spec"], "status": status}
