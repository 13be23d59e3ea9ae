"""Wherever the operator fails or is killed, the outcome for an endpoint is the same.

The life of an endpoint is repeated, each time with a fault at the next request of every phase, until a life
has no such request any more.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import count, islice
from typing import Any

import pytest

from forebay_kube.api_client import ApiClient
from forebay_operator.spec import Manifest
from tests.endpoints import endpoint
from tests.integration.faulty_api import Fault, FaultyApi
from tests.integration.httproutes import HTTPROUTES, httproute_crd
from tests.integration.in_process import (
    CHILDREN,
    Administrator,
    InProcessOperator,
    find_flapping,
    normalize,
    normalize_status,
)
from tests.integration.kubernetes_client import connect
from tests.kubectl import Kubectl, install_crd, wait_for

MADE: dict[str, Any] = {
    "suspend": True,
    "cache": {"size": "1Gi"},
    "route": {"parentRefs": [{"name": "public"}], "hostnames": ["llm.example.com"]},
    "env": [{"name": "MAX_MODEL_LEN", "value": "64"}],
}
PHASES: Mapping[str, Manifest] = {
    "make": {},
    "change": {
        "replicas": 2,
        "env": [{"name": "MAX_MODEL_LEN", "value": "128"}],
        "service": {"port": 8080},
        "route": {"hostnames": ["other.example.com"]},
        "cache": {"deletionPolicy": "Delete"},
    },
    "remove": {"route": None, "env": None, "auth": {"mode": "None"}},
}
"""The action of a user in each phase: a merge patch of the spec. The first phase creates the endpoint."""

FAULTS = [Fault(after=True, stale=2), Fault(kills=True, after=True)]
ALL_FAULTS = [Fault(kills, after, stale) for kills in (False, True) for after in (False, True) for stale in (0, 2)]
"""A fault before a request leaves the same state as a fault after the previous one, so the short form omits it."""

PARALLEL_LIVES = 12


@dataclass(frozen=True)
class Life:
    """The state at the end of each phase, and the phases in which the fault happened."""

    ends: Mapping[str, Manifest]
    hits: int


async def live(administrator: Administrator, api: FaultyApi, name: str, fault: Fault, at: int) -> Life:
    """Run all phases with the fault at one request of each, and check the invariants."""
    operator, ends, hits = InProcessOperator(api, administrator, name), {}, 0
    for phase, change in PHASES.items():
        if phase == "make":
            await administrator.create(endpoint(name, **MADE))
        else:
            await administrator.change(name, change)
        written = len(api.statuses)
        api.arm(fault, at)
        await operator.settle(fault.stale)
        hits += api.hit
        api.arm(fault, 0)
        assert await operator.check_in_full() == 0, "the caches showed every change to reconcile"
        assert find_flapping(api.statuses[written:]) == []
        ends[phase] = await describe(administrator, name)
    assert len(set(api.made)) == len(api.made), "no object is created twice, above all no key that clients may have"
    assert operator.recorded_reasons in (["Suspended"], []), (
        "an event may be lost with the answer to its status, and no other event exists"
    )
    await administrator.delete(name)
    return Life(ends, hits)


async def describe(administrator: Administrator, name: str) -> Manifest:
    """All objects of an endpoint, in a comparable form."""
    manifest = await administrator.get(name)
    assert manifest
    uid, status = manifest["metadata"]["uid"], manifest["status"]
    children = {
        kind: sorted((normalize(one, name, uid) for one in await administrator.children(kind, name)), key=str)
        for kind in CHILDREN
    }
    return {**children, "status": normalize_status(status, name)}


@pytest.fixture(scope="module")
async def operators_api(operators_kubectl: Kubectl) -> AsyncIterator[Any]:
    async with await connect(operators_kubectl.kubeconfig) as api:
        yield api


@pytest.fixture
async def administrator(control_plane: Kubectl, kubectl: Kubectl) -> AsyncIterator[Administrator]:
    install_crd(control_plane, httproute_crd(), HTTPROUTES, "--server-side")
    async with await connect(control_plane.kubeconfig) as api:
        yield Administrator(ApiClient(api), kubectl.namespace)


@pytest.mark.parametrize(
    "faults", [pytest.param(FAULTS, id="short"), pytest.param(ALL_FAULTS, id="all", marks=pytest.mark.soak)]
)
async def test_a_fault_at_any_request_does_not_change_the_outcome(
    administrator: Administrator, operators_api: Any, kubectl: Kubectl, faults: list[Fault]
) -> None:
    undisturbed = await live(administrator, FaultyApi(operators_api), "undisturbed", Fault(), 0)
    assert [len(undisturbed.ends["make"][kind]) for kind in ("Secret", "HTTPRoute", "Deployment")] == [2, 1, 1]
    assert undisturbed.ends["remove"]["HTTPRoute"] == []
    turns = asyncio.Semaphore(PARALLEL_LIVES)

    async def disturb(number: int, fault: Fault, at: int) -> int:
        async with turns:
            life = await live(administrator, FaultyApi(operators_api), f"life-{number}-{at:02}", fault, at)
        for phase, end in life.ends.items():
            assert end == undisturbed.ends[phase], f"{phase}, {fault} at request {at}"
        return life.hits

    numbers, hits = count(1), 1
    while hits:
        ats = list(islice(numbers, PARALLEL_LIVES // len(faults) or 1))
        lives = (disturb(number, fault, at) for at in ats for number, fault in enumerate(faults))
        hits = sum(await asyncio.gather(*lives))
    assert next(numbers) > 12, "a life has more requests than this"
    wait_for(lambda: is_deleted(kubectl), "the children are deleted with their endpoints", timeout=60)


@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_clock_that_is_hours_wrong_does_not_change_the_outcome(
    administrator: Administrator, operators_api: Any, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    undisturbed = await live(administrator, FaultyApi(operators_api), "right", Fault(), 0)

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=hours)

    monkeypatch.setattr("forebay_operator.controller.reconciler.datetime", Skewed)
    skewed = await live(administrator, FaultyApi(operators_api), "skewed", Fault(kills=True, after=True), 6)
    assert skewed.ends == undisturbed.ends
    assert skewed.hits > 0


def is_deleted(kubectl: Kubectl) -> bool:
    """Whether every child is deleted, or only waits for a controller that does not run here."""
    kinds = "deployments,services,secrets,pdb,httproutes,replicasets,pods,pvc"
    found = kubectl.list(kinds, "forebay.dev/endpoint")
    return all(one["kind"] == "PersistentVolumeClaim" and "deletionTimestamp" in one["metadata"] for one in found)
