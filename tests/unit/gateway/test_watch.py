"""The watches of the API server: no object and no answer ends them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import DEFAULT_JOBS_PER_POD, MAX_JOBS_PER_POD, read_endpoint
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.endpoints.watch import Watch, watches
from forebay_kube import names
from forebay_kube.api_client import ApiClient, ApiServerError
from tests.fuzz import fuzzed

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("9" * 5000)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)
FIELDS = ("spec", "status", "data", "ports", "endpoints", "addressType")
NAMES = ("env", "auth", "replicas", "scaling", "conditions", "models", "startup", "suspend", "observedGeneration", "x")
INNER = st.sampled_from(NAMES) | st.just("modelsKnown")
PARTS = ANYTHING | st.dictionaries(INNER, ANYTHING | st.lists(st.dictionaries(st.just("name"), ANYTHING)), max_size=6)


class ListingClient(ApiClient):
    """Returns the given lists one after another; then its watches stay open without an event."""

    def __init__(self, *lists: Any) -> None:
        self.lists = list(lists)
        self.asked = asyncio.Event()

    async def request(self, *_: Any, **__: Any) -> Any:
        found = self.lists.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        self.asked.set()
        await asyncio.Event().wait()
        yield {}


def listed(*items: Any) -> dict[str, Any]:
    return {"items": list(items), "metadata": {"resourceVersion": "1"}}


def named(name: str, **parts: Any) -> dict[str, Any]:
    metadata = {"namespace": "team-b", "name": name, "labels": {names.SERVICE_LABEL: name}}
    return {"metadata": metadata, **parts}


def watch_of(directory: Directory, number: int) -> Watch:
    return list(watches(directory, KeyAuthorizer(), "forebay-system", ()))[number]


@fuzzed
@given(which=st.integers(0, 3), parts=st.dictionaries(st.sampled_from(FIELDS), PARTS, max_size=4))
def test_no_object_ends_a_watch(which: int, parts: dict[str, Any]) -> None:
    directory = Directory("team-a")
    watch = watch_of(directory, which)
    watch._handle_event("ADDED", named("bad", **parts))
    watch._handle_event("MODIFIED", named("bad", **parts))
    watch._handle_event("DELETED", named("bad", **parts))
    assert directory.endpoint(("team-b", "bad")) is None


async def test_an_invalid_object_does_not_affect_others() -> None:
    directory = Directory("team-a")
    watch = watch_of(directory, 0)
    api = ListingClient(listed(named("bad", spec={"replicas": {}}), named("good", spec={"replicas": 2})))
    task = asyncio.create_task(watch.run(api))
    await asyncio.wait_for(api.asked.wait(), 10)
    assert watch.synced.is_set()
    assert directory.endpoint(("team-b", "bad")) is None
    assert directory.endpoint(("team-b", "good")) is not None
    task.cancel()


@pytest.mark.parametrize(
    "failure",
    [
        {},
        {"items": [{}], "metadata": {}},
        {"items": None},
        ApiServerError(500, "", "x"),
        ApiServerError(401, "", "x"),
        KeyError("x"),
    ],
    ids=["nothing", "no name", "no items", "500", "401", "a bug"],
)
async def test_no_answer_ends_a_watch(failure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay_gateway.endpoints.watch.MAX_WATCH_RETRY_DELAY", 0.001)
    directory = Directory("team-a")
    watch = watch_of(directory, 0)
    api = ListingClient(failure, failure, listed(named("good")))
    task = asyncio.create_task(watch.run(api))
    await asyncio.wait_for(api.asked.wait(), 10)
    assert directory.endpoint(("team-b", "good")) is not None
    task.cancel()


@pytest.mark.parametrize(
    ("value", "jobs"),
    [
        ("7", 7),
        (" 7\n", 7),
        ("0", DEFAULT_JOBS_PER_POD),
        ("-1", DEFAULT_JOBS_PER_POD),
        ("²", DEFAULT_JOBS_PER_POD),
        ("many", DEFAULT_JOBS_PER_POD),
        ("", DEFAULT_JOBS_PER_POD),
        ("999", 999),
        ("1000", MAX_JOBS_PER_POD),
        ("1" + 6000 * "0", MAX_JOBS_PER_POD),
        ("9" * 5000, MAX_JOBS_PER_POD),
    ],
    ids=lambda value: str(value)[:8],
)
def test_jobs_of_a_pod_are_bounded(value: str, jobs: int) -> None:
    assert read_endpoint(named("x", spec={"env": [{"name": "MAX_CONCURRENCY", "value": value}]})).jobs == jobs


def test_state_of_an_endpoint_is_dropped_on_deletion_and_not_when_it_is_invalid() -> None:
    gone: list[tuple[str, str]] = []
    directory = Directory("team-a")
    directory.endpoint_removed.add(gone.append)
    watch = watch_of(directory, 0)
    watch._handle_event("ADDED", named("one", spec={"replicas": 1}))
    watch._handle_event("MODIFIED", named("one", spec={"replicas": {}}))
    assert directory.endpoint(("team-b", "one")) is None
    assert gone == []
    watch._handle_event("DELETED", named("one"))
    assert gone == [("team-b", "one")]
