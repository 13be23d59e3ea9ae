"""Random specs in random clusters: a reconcile never fails, always reaches a fixed point, and writes a valid status."""

import asyncio
import copy
import os
from dataclasses import replace
from enum import Enum, auto
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from forebay_kube import names
from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.apiserver.cache import Cache
from forebay_operator.resources.meta import find_controller
from forebay_operator.spec import Inheritance
from forebay_operator.spec.replicas import lacks_replicas
from forebay_operator.status.start_progress import SERVER_STEPS, Report, run_of
from forebay_operator.upgrades.coordinator import UpgradeCoordinator
from tests.unit.operator.fake_api_server import NAMESPACE, FakeApiServer, Object, names_of
from tests.unit.operator.reconciling import SETTINGS, build_reconciler, catch_up
from tests.unit.operator.schema import PROPERTIES, values_of

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

NAME = "one"
KEY: EndpointKey = NAMESPACE, NAME
CHILDREN = [
    ("deployments", NAME),
    ("services", NAME),
    ("secrets", labels.key_secret_name(NAME)),
    ("secrets", labels.control_secret_name(NAME)),
    ("persistentvolumeclaims", labels.cache_claim_name(NAME)),
    ("poddisruptionbudgets", NAME),
    ("networkpolicies", NAME),
    ("endpointslices", labels.gateway_slice_name(NAME, "IPv4")),
    ("httproutes", NAME),
]
INHERITING = replace(SETTINGS, inheritance=Inheritance(labels=("team",)))

EXAMPLES = int(os.environ.get("FOREBAY_FUZZ", "60"))
"""Clusters that are tried: enough for a second or two; give more by the variable."""

ROUNDS = 7
"""Reconciles after which no write is left: one writes, another reads the result, two more for refusals, three for an
upgrade."""

status_schema = PROPERTIES["status"]
specs = values_of(PROPERTIES["spec"])
wild_specs = values_of(PROPERTIES["spec"], wild=True).filter(lambda spec: isinstance(spec, dict))
statuses = values_of(status_schema)
words = st.text(max_size=30) | st.sampled_from(
    [
        '{"reason": "BadFlag", "message": "no such flag", "remedy": "remove it"}',
        '{"reason": 1}',
        "[]",
        "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        "x" * 5000,
    ]
)
times = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", "2099-01-01T00:00:00Z", None])
reasons = st.sampled_from(
    ["Unschedulable", "SchedulerError", "SchedulingGated", "ImagePullBackOff", "InvalidImageName", "OOMKilled", "Error",
     "CreateContainerConfigError", "CreateContainerError", "ProgressDeadlineExceeded", "FailedCreate", "Evicted", ""]
)  # fmt: skip


def sometimes(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def conditions(*kinds: str) -> st.SearchStrategy[list[Any]]:
    status = st.sampled_from(["True", "False", "Unknown"])
    more = {"reason": reasons, "message": words, "lastTransitionTime": times}
    one = st.fixed_dictionaries({"type": st.sampled_from(kinds), "status": status}, optional=more)
    return st.lists(one, max_size=4)


states = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"waiting": sometimes(reason=reasons, message=words)}),
    st.fixed_dictionaries({"running": sometimes(startedAt=times)}),
    st.fixed_dictionaries(
        {
            "terminated": st.fixed_dictionaries(
                {"exitCode": st.sampled_from([0, 1, 78, 137, 143])},
                optional={"reason": reasons, "message": words, "startedAt": times, "finishedAt": times},
            )
        }
    ),
)
containers = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["server", "server", "sidecar"]),
        "ready": st.booleans(),
        "restartCount": st.integers(0, 20),
    },
    optional={"started": st.booleans(), "state": states, "lastState": states},
)
init_containers = st.fixed_dictionaries(
    {"name": st.sampled_from(["forebay-overlay", "sidecar"]), "restartCount": st.integers(0, 20)},
    optional={"state": states, "lastState": states},
)
pod_statuses = sometimes(
    phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    reason=reasons,
    message=words,
    podIP=st.just("10.0.0.1"),
    conditions=conditions("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"),
    containerStatuses=st.lists(containers, max_size=2),
    initContainerStatuses=st.lists(init_containers, max_size=1),
)
deployment_statuses = sometimes(
    observedGeneration=st.integers(0, 9),
    replicas=st.integers(0, 9),
    conditions=conditions("Progressing", "Available", "ReplicaFailure"),
)
reports = st.builds(
    Report,
    st.sampled_from(sorted(SERVER_STEPS)),
    st.dictionaries(st.sampled_from(sorted(SERVER_STEPS)), st.floats(0, 1e6), max_size=3),
    st.dictionaries(st.sampled_from(["percent", "bytesPerSecond", "etaSeconds"]), st.integers(0, 100), max_size=3),
)

events = sometimes(
    reason=st.sampled_from(["FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Pulled", "Scheduled"]),
    message=words,
    lastTimestamp=times,
    eventTime=times,
    series=sometimes(lastObservedTime=times),
)
pods = st.fixed_dictionaries(
    {
        "status": pod_statuses,
        "newest": st.sampled_from([True, True, True, False]),
        "leaving": st.sampled_from([False, False, False, True]),
        "report": st.none() | reports,
    }
)

prompt = st.sampled_from([True, True, True, False])
"""Whether the operator sees and does its work before anything else happens."""


class Mishap(Enum):
    """Further events of an endpoint, beside changes and pods."""

    RESTART = auto()
    DELETION = auto()
    SLOW_DELETION = auto()
    LOSS = auto()
    NAME_TAKEN = auto()
    OWNER_OF_BEFORE = auto()
    EDIT = auto()
    REFUSAL = auto()
    ROUTES = auto()
    PODS = auto()


class Reconciling(RuleBasedStateMachine):
    """A user, other controllers and a failing network on one side, the Reconciler on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.server = FakeApiServer(status_schema)
        self.now = 0.0
        self.cache = Cache({}, {}, {}, {}, {})
        self.reports: dict[str, Report] = {}
        self.releases = cycle((INHERITING, replace(INHERITING, gpu_image="gpu:2", cpu_image="cpu:2")))
        self.begin()

    def begin(self) -> None:
        """Start another process of the operator, of another release. Its memory is empty."""
        settings = next(self.releases)
        self.upgrades = UpgradeCoordinator(settings.upgrades, lambda _: None)
        known: dict[str, Any] = {"reports": self.reports, "settings": settings, "upgrades": self.upgrades}
        self.reconciler, self.gateways = build_reconciler(self.server, self.cache, KEY, lambda: self.now, **known)

    # What users do.

    @initialize(spec=specs)
    def make(self, spec: Object) -> None:
        self.server.put("secrets", {"metadata": {"name": "mine"}})
        self.server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": spec})
        self.look(True)

    @rule(spec=specs | specs | specs | wild_specs, prompt=prompt)
    def change(self, spec: Any, prompt: bool) -> None:
        live = self.server.objects.get((names.PLURAL, NAME), {"metadata": {"name": NAME}})
        if "deletionTimestamp" in live["metadata"]:
            self.server.remove(names.PLURAL, NAME)
            live = {"metadata": {"name": NAME}}
        self.server.put(names.PLURAL, {**live, "spec": spec})
        self.look(prompt)

    @rule(team=st.sampled_from(["", "a", "b"]), prompt=prompt)
    def label(self, team: str, prompt: bool) -> None:
        """The user changes the label that children inherit."""
        if live := self.server.objects.get((names.PLURAL, NAME)):
            labels = {"team": team, "other": team} if team else {}
            self.server.put(names.PLURAL, {**live, "metadata": {**live["metadata"], "labels": labels}})
            self.look(prompt)

    def delete(self) -> None:
        self.server.remove(names.PLURAL, NAME)

    @rule(status=statuses)
    def overwrite_status(self, status: Object) -> None:
        if live := self.server.objects.get((names.PLURAL, NAME)):
            self.server.put(names.PLURAL, {**live, "status": status})

    def begin_deletion(self) -> None:
        if live := self.server.objects.get((names.PLURAL, NAME)):
            metadata = {**live["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
            self.server.put(names.PLURAL, {**live, "metadata": metadata})

    # What becomes of the children.

    @rule(mishap=st.sampled_from(Mishap), place=st.sampled_from(CHILDREN), kept=st.integers(0, 255))
    def meet_with(self, mishap: Mishap, place: tuple[str, str], kept: int) -> None:
        """Rare events."""
        match mishap:
            case Mishap.RESTART:
                self.begin()
            case Mishap.DELETION:
                self.delete()
            case Mishap.SLOW_DELETION:
                self.begin_deletion()
            case Mishap.LOSS:
                self.lose(place)
            case Mishap.NAME_TAKEN:
                self.take_the_name(place, owned=False)
            case Mishap.OWNER_OF_BEFORE:
                self.take_the_name(place, owned=True)
            case Mishap.EDIT:
                self.edit(place, kept)
            case Mishap.REFUSAL:
                self.refuse(place[0])
            case Mishap.ROUTES:
                self.install_routes()
            case Mishap.PODS:
                self.lose_pods()

    def lose(self, place: tuple[str, str]) -> None:
        self.server.remove(*place)

    def take_the_name(self, place: tuple[str, str], owned: bool) -> None:
        """Another owner, or a deleted endpoint, has an object of that name."""
        owner = {"kind": names.KIND, "name": NAME, "uid": "of before", "controller": True}
        metadata = {
            "name": place[1],
            "labels": labels.child_labels(NAME),
            **({"ownerReferences": [owner]} if owned else {}),
        }
        spec = {"template": {"metadata": {}, "spec": {}}, "ports": [{"port": 1}], "parentRefs": []}
        self.server.remove(*place)
        self.server.put(place[0], {"metadata": metadata, "spec": spec})

    def edit(self, place: tuple[str, str], kept: int) -> None:
        """Fields are removed or get other values, as far as Kubernetes allows it."""
        if live := copy.deepcopy(self.server.objects.get(place)):
            spec = live.get("spec") or {}
            for number, field in enumerate(sorted(set(spec) - {"template", "ports", "parentRefs"})):
                if not kept >> number & 1:
                    spec[field] = type(spec[field])()
            if kept % 2:
                live["metadata"]["annotations"] = {}
            self.server.put(place[0], live)

    @rule(status=deployment_statuses, prompt=prompt)
    def judge_deployment(self, status: Object, prompt: bool) -> None:
        if live := self.server.objects.get(("deployments", NAME)):
            self.server.put("deployments", {**live, "status": status})
            self.look(prompt)

    @rule(place=st.sampled_from(["Accepted", "ResolvedRefs"]), status=st.sampled_from(["True", "False", "Unknown"]))
    def judge_route(self, place: str, status: str) -> None:
        if live := self.server.objects.get(("httproutes", NAME)):
            answer = {"parentRef": {"name": "g"}, "conditions": [{"type": place, "status": status}]}
            self.server.put("httproutes", {**live, "status": {"parents": [answer]}})

    @rule(pods=st.dictionaries(st.integers(0, 3), pods, min_size=1, max_size=3), prompt=prompt)
    def play_pods(self, pods: dict[int, Object], prompt: bool) -> None:
        deployment = self.server.objects.get(("deployments", NAME), {"spec": {}})
        template = deployment["spec"].get("template") or {"metadata": {}}
        for number, each in pods.items():
            metadata = {
                "name": f"{NAME}-{number}",
                "labels": labels.child_labels(NAME),
                "annotations": (template["metadata"].get("annotations") or {}) if each["newest"] else {},
                "creationTimestamp": f"2026-01-01T00:0{number}:00Z",
                **({"deletionTimestamp": "2026-01-01T00:10:00Z"} if each["leaving"] else {}),
            }
            containers = (template.get("spec") or {}).get("containers") or []
            spec = {"containers": containers, "nodeName": "node" if number else ""}
            pod = self.server.put("pods", {"metadata": metadata, "spec": spec, "status": each["status"]})
            if each["report"]:
                self.reports[run_of(pod)] = each["report"]
        self.look(prompt)

    @rule(events=st.lists(events, max_size=3))
    def record_events(self, events: list[Object]) -> None:
        """Kubernetes records events of the pods."""
        self.server.events = events

    def lose_pods(self) -> None:
        for name in names_of(self.server.objects, "pods"):
            self.server.remove("pods", name)

    # What the network and the API server do.

    @rule(gateways=st.none() | st.sets(st.sampled_from(["10.1.0.1", "10.1.0.2", "fd00::1"])), listed=st.booleans())
    def stand_by(self, gateways: set[str] | None, listed: bool) -> None:
        """Gateways are added and removed, and Kubernetes lists pods in its own time."""
        self.gateways.addresses = None if gateways is None else tuple(sorted(gateways))
        self.server.lists_pods = listed

    def refuse(self, plural: str) -> None:
        self.server.refused ^= {plural}

    def install_routes(self) -> None:
        self.server.serves_routes ^= True

    @rule()
    def watch(self) -> None:
        """The watches catch up; until then the cache is of before."""
        catch_up(self.cache, self.server, KEY)

    def look(self, prompt: bool) -> None:
        if prompt:
            self.watch()
            self.reconcile()

    @rule(at=st.integers(1, 12), takes_effect=st.booleans(), live=st.booleans())
    def reconcile_with_a_fault(self, at: int, takes_effect: bool, live: bool) -> None:
        self.server.failing, self.server.takes_effect = at, takes_effect
        self.reconcile(live)
        self.server.failing = 0

    def find_untouchable(self) -> dict[tuple[str, str], Object]:
        """The state that a reconcile must not change: objects of other owners, and the content of Secrets. An
        endpoint that was deleted counts while the cache has it: Kubernetes removes children created for it then."""
        endpoints = [self.server.objects.get((names.PLURAL, NAME)), self.cache.endpoint(KEY)]
        uids = {each["metadata"]["uid"] for each in endpoints if each}
        found = {}
        for place, each in self.server.objects.items():
            owner = find_controller(each)
            own = owner and owner["uid"] in uids
            kept_claim = place[0] == "persistentvolumeclaims" and not owner
            if place[0] == "secrets" or not (own or kept_claim or place[0] == names.PLURAL):
                found[place] = copy.deepcopy(each)
        return found

    @rule(live=st.booleans())
    def reconcile(self, live: bool = False) -> None:
        untouchable = self.find_untouchable()
        self._reconcile(live)
        for place, before in untouchable.items():
            assert self.server.objects.get(place) == before, f"{place} is not to be touched"

    def _reconcile(self, live: bool) -> None:
        try:
            if live:
                self.reconciler.force_refresh(KEY)
            asyncio.run(self.reconciler.reconcile(KEY))
        except ApiServerError as error:
            if error.status not in (0, 409):
                raise

    @rule(live=st.booleans())
    def settle(self, live: bool) -> None:
        """When all is quiet, nothing is left to write after a few rounds."""
        for _ in range(ROUNDS):
            before = self.server.writes
            self.now += 60  # longer than progress waits to be written
            self.watch()
            self.upgrades.plan()
            self.reconcile(live)
        assert self.server.writes == before, "no fixed point"
        found = self.server.objects.get((names.PLURAL, NAME))
        assert found is None or "deletionTimestamp" in found["metadata"] or not lacks_replicas(found)

    def teardown(self) -> None:
        self.settle(live=False)
        self.settle(live=True)


TestReconciling = Reconciling.TestCase
TestReconciling.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
