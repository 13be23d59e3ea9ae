"""One reconcile: the existing objects, its writes, and the status."""

import copy
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from forebay_kube import names
from forebay_kube.api_client import ApiServerError
from forebay_operator import labels
from forebay_operator.apiserver.cache import Cache
from forebay_operator.settings import Settings
from tests.kubectl import condition
from tests.unit.operator.fake_api_server import NAMESPACE, FakeApiServer, Object
from tests.unit.operator.reconciling import SETTINGS, build_reconciler, catch_up
from tests.unit.operator.schema import PROPERTIES

NAME = "one"
KEY = (NAMESPACE, NAME)
CHILDREN = {"deployments", "services", "secrets", "networkpolicies", "poddisruptionbudgets"}
FOREIGN = {"metadata": {"name": NAME}, "spec": {"ports": [{"port": 1}], "template": {"metadata": {}, "spec": {}}}}


@dataclass
class Case:
    """A row: the endpoint, what happens before the reconcile, what it changes, and Ready's reason and status.

    `made`: the endpoint was reconciled once before it happens.
    """

    name: str
    reason: str
    ready: str = "False"
    writes: Set[str] = frozenset()
    spec: Object = field(default_factory=dict)
    happens: Callable[[FakeApiServer], object] = lambda _: None
    made: bool = True
    done: bool = True
    settings: Settings = SETTINGS


def add_pod(server: FakeApiServer, **status: Any) -> None:
    """A pod of the Deployment as it is."""
    template = server.objects["deployments", NAME]["spec"]["template"]
    metadata = {
        "name": "one-1",
        "labels": labels.child_labels(NAME),
        "annotations": template["metadata"]["annotations"],
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    server.put("pods", {"metadata": metadata, "spec": template["spec"], "status": status})


def fail_to_pull(server: FakeApiServer) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}
    container = {"name": labels.CONTAINER, "state": {"waiting": waiting}}
    scheduled = {"type": "PodScheduled", "status": "True"}
    add_pod(server, phase="Pending", conditions=[scheduled], containerStatuses=[container])


def become_ready(server: FakeApiServer) -> None:
    add_pod(server, conditions=[{"type": "Ready", "status": "True"}])


CASES = [
    Case("a new endpoint, of which the status tells a second later", "", "", writes=CHILDREN, made=False),
    Case("nothing is new", "Scheduling"),
    Case("the Service was deleted", "Scheduling", writes={"services"}, happens=lambda s: s.remove("services", NAME)),
    Case(
        "the Deployment was deleted", "Scheduling", writes={"deployments"},
        happens=lambda s: s.remove("deployments", NAME),
    ),
    Case("a pod is ready", "Ready", "True", happens=become_ready),
    Case("a pod cannot pull its image", "ImageNotFound", happens=fail_to_pull),
    Case("the spec cannot work", "InvalidSpec", spec={"gpu": {"count": -1}}, made=False),
    Case(
        "the Service belongs to somebody else", "NotOwned", writes=CHILDREN - {"deployments", "services"},
        happens=lambda s: s.put("services", FOREIGN), made=False, done=False,
    ),
    Case(
        "a policy refuses the Deployment", "Refused", writes=CHILDREN - {"deployments"},
        happens=lambda s: s.refused.add("deployments"), made=False, done=False,
    ),
    Case(
        "the operator has no server image", "NoServerImage",
        made=False, settings=replace(SETTINGS, gpu_image="", cpu_image=""),
    ),
    Case(
        "the operator has no overlay image", "NoOverlayImage", made=False, settings=replace(SETTINGS, overlay_image=""),
    ),
    Case(
        "the pods need no overlay image", "", "", writes=CHILDREN, spec={"overlay": "None"}, made=False,
        settings=replace(SETTINGS, overlay_image=""),
    ),
    Case(
        "the overlay is a volume, which this Kubernetes cannot mount", "ImageVolumeUnsupported",
        spec={"overlay": "ImageVolume"}, happens=lambda s: setattr(s, "minor", 34),
        made=False, done=False, settings=replace(SETTINGS, kubernetes_minor=34),
    ),
    Case("it is suspended", "Suspended", "True", writes=CHILDREN, spec={"suspend": True}, made=False),
    Case(
        "zero without gateways", "NoGateway",
        writes=CHILDREN, spec={"replicas": 0, "scaling": {"maxReplicas": 1}}, made=False,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_reconcile_writes_missing_objects_and_the_status(case: Case) -> None:
    server, cache = FakeApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__, settings=case.settings)
    spec = {"model": "org/model", "gpu": {"count": 0}, "replicas": 1, **case.spec}
    server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": spec})
    if case.made:
        catch_up(cache, server, KEY)
        await reconciler.reconcile(KEY)
    case.happens(server)
    before = copy.deepcopy(server.objects)
    catch_up(cache, server, KEY)
    assert await reconciler.reconcile(KEY) is case.done
    found = {plural for (plural, name), one in server.objects.items() if before.get((plural, name)) != one}
    assert found - {names.PLURAL} == case.writes
    ready = condition(server.objects[names.PLURAL, NAME], "Ready")
    assert (ready.get("reason", ""), ready.get("status", "")) == (case.reason, case.ready)


@pytest.mark.parametrize("deletion", [True, False], ids=["is being deleted", "is deleted"])
async def test_a_deleted_endpoint_is_dropped(deletion: bool) -> None:
    server, cache = FakeApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, lambda: 0.0)
    made = server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": {"model": "org/model"}})
    if deletion:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        catch_up(cache, server, KEY)
    assert await reconciler.reconcile(KEY)
    assert server.writes == 0


async def test_a_failed_refresh_stays_requested() -> None:
    server, cache = FakeApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__)
    made = server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": {"model": "org/model", "replicas": 1}})
    catch_up(cache, server, KEY)
    made["spec"]["model"] = "org/another"  # which the cache does not know yet
    server.refused.update({"deployments", "services"})
    reconciler.force_refresh(KEY)
    assert not await reconciler.reconcile(KEY)
    server.refused.clear()
    await reconciler.reconcile(KEY)
    assert "org/another" in str(server.objects["deployments", NAME])


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({}, 1, id="nothing is remembered"),
        pytest.param({"desiredReplicas": 4}, 4, id="a number"),
        pytest.param({"desiredReplicas": 0}, 0, id="zero"),
        pytest.param({"desiredReplicas": 1001}, 1, id="a number out of bounds"),
        pytest.param({"desiredReplicas": True}, 1, id="no number"),
    ],
)
@pytest.mark.parametrize("spec", [{}, {"replicas": None}, {"gpu": {"count": -1}}], ids=["absent", "null", "invalid"])
async def test_an_absent_number_of_replicas_is_filled_in_before_anything_else(
    spec: Object, status: Object, expected: int
) -> None:
    server, cache = FakeApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__)
    server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": {"model": "org/model", **spec}, "status": status})
    catch_up(cache, server, KEY)
    assert await reconciler.reconcile(KEY)
    assert set(server.objects) == {(names.PLURAL, NAME)}
    found = server.objects[names.PLURAL, NAME]
    assert (found["spec"]["replicas"], found["status"]) == (expected, status)


@pytest.mark.parametrize("suspend", [False, True])
async def test_a_removed_number_is_filled_in_again_and_the_deployment_stays(suspend: bool) -> None:
    server, cache = FakeApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__)
    spec = {"model": "org/model", "replicas": 4, "suspend": suspend}
    server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": spec})
    for _ in range(2):  # the first status of a start waits for the second
        catch_up(cache, server, KEY)
        await reconciler.reconcile(KEY)
    assert server.objects[names.PLURAL, NAME]["status"]["desiredReplicas"] == 4
    server.put(names.PLURAL, {**server.objects[names.PLURAL, NAME], "spec": {"model": "org/another"}})
    before = copy.deepcopy(server.objects["deployments", NAME])
    catch_up(cache, server, KEY)
    assert await reconciler.reconcile(KEY)
    assert server.objects["deployments", NAME] == before
    assert server.objects[names.PLURAL, NAME]["spec"]["replicas"] == 4


async def test_a_number_written_at_the_same_time_wins() -> None:
    server, cache = FakeApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__)
    server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": {"model": "org/model"}})
    catch_up(cache, server, KEY)
    server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": {"model": "org/model", "replicas": 7}})
    assert not await reconciler.reconcile(KEY), "the endpoint is queued again"
    assert server.objects[names.PLURAL, NAME]["spec"]["replicas"] == 7


async def test_the_status_says_why_a_number_cannot_be_filled_in() -> None:
    server, cache = FakeApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__)
    server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": {"model": "org/model"}})
    server.refused.add(names.PLURAL)
    catch_up(cache, server, KEY)
    assert not await reconciler.reconcile(KEY), "it is retried"
    ready = condition(server.objects[names.PLURAL, NAME], "Ready")
    assert (ready["reason"], ready["message"].partition(":")[0]) == ("Refused", "the number of replicas was refused")
    assert set(server.objects) == {(names.PLURAL, NAME)}


class OlderApiServer(FakeApiServer):
    """A server whose CRD is from a release that did not store the number of replicas, and has a default for it."""

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if path.endswith("/status") and "desiredReplicas" in body["status"]:
            text = "failed to create typed patch object (team/one; forebay.dev/v1alpha1, Kind=InferenceEndpoint): "
            raise ApiServerError(500, "", f"{text}.status.desiredReplicas: field not declared in schema")
        return await super().request(method, path, body, **options)


async def test_a_status_is_written_even_with_an_older_crd() -> None:
    server, cache = OlderApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__)
    spec = {"model": "org/model", "replicas": 1, "suspend": True}
    server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": spec})
    catch_up(cache, server, KEY)
    assert await reconciler.reconcile(KEY)
    assert condition(server.objects[names.PLURAL, NAME], "Ready")["reason"] == "Suspended"


class ApplyingApiServer(FakeApiServer):
    """A server with server-side applies, which record the field managers of endpoints."""

    disowned: str = ""
    refuses_to_disown: bool = False

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if method == "PATCH" and path.endswith(f"/{names.PLURAL}/{NAME}"):
            if self.refuses_to_disown:
                raise ApiServerError(403, "Forbidden", "the chart is older than the operator")
            self.disowned = body[-1]["path"]
            assert {"op": "test", "path": f"{self.disowned}/subresource", "value": "scale"} in body
        answer = await super().request(method, path, body, **options)
        if method == "GET" and path.endswith(f"/{names.PLURAL}/{NAME}"):
            ours = {"manager": labels.FIELD_MANAGER, "operation": "Update", "subresource": "scale"}
            answer["metadata"]["managedFields"] = [APPLIED, ours]
        return answer


APPLIED = {"manager": "kubectl", "operation": "Apply"}


@pytest.mark.parametrize(
    ("spec", "managers", "disowned"),
    [
        pytest.param({}, [APPLIED], "/metadata/managedFields/1", id="applied on the server side"),
        pytest.param({}, [{**APPLIED, "operation": "Update"}], "", id="applied on the client side"),
        pytest.param({"scaling": {"maxReplicas": 2}}, [APPLIED], "", id="the operator scales it"),
    ],
)
@pytest.mark.parametrize("refused", [False, True])
async def test_a_filled_in_number_has_no_field_manager_that_could_conflict(
    spec: Object, managers: list[Object], disowned: str, refused: bool
) -> None:
    server, cache = ApplyingApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    server.refuses_to_disown = refused
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__)
    metadata = {"name": NAME, "managedFields": managers}
    server.put(names.PLURAL, {"metadata": metadata, "spec": {"model": "org/model", **spec}})
    catch_up(cache, server, KEY)
    assert await reconciler.reconcile(KEY), "without that permission the number is filled in as well"
    assert server.objects[names.PLURAL, NAME]["spec"]["replicas"] == 1
    assert server.disowned == ("" if refused else disowned)


async def test_a_refresh_follows_after_the_number_was_filled_in() -> None:
    server, cache = FakeApiServer(PROPERTIES["status"]), Cache({}, {}, {}, {}, {})
    reconciler, _ = build_reconciler(server, cache, KEY, count(0, 60).__next__)
    server.put(names.PLURAL, {"metadata": {"name": NAME}, "spec": {"model": "org/model"}})
    catch_up(cache, server, KEY)
    reconciler.force_refresh(KEY)
    await reconciler.reconcile(KEY)
    catch_up(cache, server, KEY)
    server.objects[names.PLURAL, NAME]["spec"]["model"] = "org/another"  # which the cache does not know yet
    await reconciler.reconcile(KEY)
    assert "org/another" in str(server.objects["deployments", NAME])
