"""The operator accepts or skips any watched object, and has no other effect."""

import asyncio
import logging
from contextlib import suppress
from typing import Any, cast

import kopf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.apiserver.event_source import EventSource
from forebay_operator.resources import build_deployment, build_unwatched
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, InvalidSpec, parse_endpoint
from forebay_operator.work_queue import WorkQueue
from tests.fuzz import fuzzed, json_values

SPEC = (
    "model", "env", "envFrom", "image", "gpu", "count", "resource", "product", "resources", "replicas", "scaling",
    "auth", "mode", "secretName", "cache", "size", "adapters", "name", "source", "service", "type", "port", "route",
    "parentRefs", "networkPolicy", "create", "ports", "suspend", "pod", "labels", "volumes", "volumeMounts", "rollout",
    "drainTimeout", "org/model", "hf://org/model:v1", "args", "--seed 1", "revision", "None", "5m", "value",
    "MAX_MODEL_LEN",
)  # fmt: skip
OBJECT = (
    "spec", "status", "containers", "conditions", "type", "status", "phase", "podIP", "containerStatuses", "endpoints",
    "ports", "addresses", "template", "replicas", "observedGeneration",
)  # fmt: skip
KINDS = ("InferenceEndpoint", "Deployment", "Service", "Pod", "EndpointSlice")


def named(kind: str, name: str, parts: Any) -> dict[str, Any]:
    labels = {"forebay.dev/endpoint": name}
    metadata = {"namespace": "team", "name": name, "uid": name, "labels": labels, "generation": 1}
    return {**(parts if isinstance(parts, dict) else {"spec": parts}), "kind": kind, "metadata": metadata}


@fuzzed
@given(kind=st.sampled_from(KINDS), parts=json_values(*OBJECT), gone=st.booleans())
async def test_objects_of_every_kind_that_is_watched(kind: str, parts: Any, gone: bool) -> None:
    queue: WorkQueue[EndpointKey] = WorkQueue()
    watches, loop = EventSource(queue, []), asyncio.get_running_loop()

    async def send_event(what: str, manifest: dict[str, Any]) -> None:
        await watches._read(loop, kind, body=cast("kopf.Body", manifest), type=what)
        await asyncio.sleep(0)

    await send_event("ADDED", named(kind, "good", {"spec": {"containers": []}}))
    before = watches.stores[kind]["team", "good"]
    await send_event("MODIFIED", named(kind, "bad", parts))
    await send_event("DELETED" if gone else "MODIFIED", named(kind, "bad", parts))
    assert watches.stores[kind]["team", "good"] == before
    assert len(watches.stores[kind].names) <= 2


@fuzzed
@given(json_values(*SPEC))
def test_specs(spec: Any) -> None:
    given_spec = {"model": "org/model", **spec} if isinstance(spec, dict) else spec
    manifest = named("InferenceEndpoint", "one", {"spec": given_spec})
    endpoint: Endpoint | None = None
    with suppress(InvalidSpec):
        endpoint = parse_endpoint(manifest)
    if endpoint:
        settings = Settings("gpu:1", "cpu:1")
        build_unwatched(endpoint, settings)
        build_deployment(endpoint, settings)


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("forebay_operator.apiserver.event_source").setLevel(logging.CRITICAL)
