"""When a status is written, and what counts as the one before."""

from typing import Any

import pytest

from forebay_operator.apiserver.event_recorder import EventRecorder
from forebay_operator.controller.status_writer import StatusWriter
from tests.kubectl import Manifest

KEY = ("team", "one")


class Api:
    """Keeps one endpoint as the API server does: each write has a higher resource version."""

    def __init__(self) -> None:
        self.version = 100
        self.writes: list[Manifest] = []
        self.gone = False

    async def apply_status(self, namespace: str, name: str, uid: str, status: Manifest) -> Manifest | None:
        if self.gone:
            return None
        self.version += 1
        self.writes.append(status)
        return endpoint(self.version, status)


def endpoint(version: int, status: Manifest) -> Manifest:
    metadata = {"namespace": "team", "name": "one", "uid": "u", "resourceVersion": str(version)}
    return {"metadata": metadata, "status": status}


def status(reason: str, value: str = "False", **more: Any) -> Manifest:
    return {**more, "conditions": [{"type": "Ready", "status": value, "reason": reason, "message": "words"}]}


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def later() -> list[tuple[tuple[str, str], float]]:
    return []


@pytest.fixture
def status_writer(api: Api, later: list[tuple[tuple[str, str], float]]) -> StatusWriter:
    async def drop(manifest: object, patch: object) -> bool:
        return True

    return StatusWriter(api, EventRecorder(drop), lambda key, delay: later.append((key, delay)))  # type: ignore[arg-type]


async def test_a_stale_cache_does_not_undo_a_status(api: Api, status_writer: StatusWriter) -> None:
    stale = endpoint(100, status("Scheduling"))
    ready = status("Ready", "True")
    await status_writer.write(stale, status_writer.status_before(stale), ready)
    assert status_writer.status_before(stale) == ready, "else the transition time would move again"
    await status_writer.write(stale, status_writer.status_before(stale), ready)
    assert api.writes == [ready]


async def test_an_up_to_date_cache_is_used(api: Api, status_writer: StatusWriter) -> None:
    stale = endpoint(100, status("Scheduling"))
    await status_writer.write(stale, status_writer.status_before(stale), status("Ready", "True"))
    edited = endpoint(105, status("Edited"))
    assert status_writer.status_before(edited) == status("Edited")
    assert status_writer.status_before(stale) == status("Scheduling"), "the remembered status is no longer used"


async def test_a_recreated_endpoint_has_no_earlier_status(api: Api, status_writer: StatusWriter) -> None:
    first = endpoint(100, status("Scheduling"))
    await status_writer.write(first, status_writer.status_before(first), status("Ready", "True"))
    second = endpoint(50, status("Pending", "Unknown"))
    second["metadata"]["uid"] = "another"
    assert status_writer.status_before(second) == status("Pending", "Unknown")


async def test_only_progress_is_throttled(
    api: Api, status_writer: StatusWriter, later: list[tuple[tuple[str, str], float]]
) -> None:
    now = endpoint(100, status("NotAnswering"))
    for each in (status("Scheduling"), status("Downloading", startup={"step": "Downloading", "percent": 1})):
        await status_writer.write(now, status_writer.status_before(now), each)
    assert [written["conditions"][0]["reason"] for written in api.writes] == ["Scheduling"]
    ((key, delay),) = later
    assert key == KEY
    assert 9 < delay <= 10
    for each in (status("OutOfMemory"), status("Ready", "True")):
        await status_writer.write(now, status_writer.status_before(now), each)
    assert [written["conditions"][0]["reason"] for written in api.writes] == ["Scheduling", "OutOfMemory", "Ready"]


async def test_the_first_progress_waits_until_there_are_pods(
    api: Api, status_writer: StatusWriter, later: list[tuple[tuple[str, str], float]]
) -> None:
    new = endpoint(100, status("Pending", "Unknown"))
    await status_writer.write(new, status_writer.status_before(new), status("Scheduling", replicas=0))
    ((key, delay),) = later
    assert (api.writes, key, delay <= 2) == ([], KEY, True)
    await status_writer.write(new, status_writer.status_before(new), status("ImageNotFound"))
    assert [written["conditions"][0]["reason"] for written in api.writes] == ["ImageNotFound"]


async def test_the_progress_of_many_starts_is_throttled(
    api: Api, status_writer: StatusWriter, later: list[tuple[tuple[str, str], float]]
) -> None:
    for number in range(500):
        manifest = endpoint(100, status("Scheduling"))
        manifest["metadata"]["name"] = f"e{number}"
        await status_writer.write(manifest, status_writer.status_before(manifest), status("PullingImage"))
    assert len(api.writes) <= 2 * 20, "of two seconds, as the test may begin at the end of one"
    assert len(api.writes) + len(later) == 500
    assert max(delay for _, delay in later) < 500 / 20 + 2


async def test_a_status_of_a_deleted_endpoint_is_no_error(api: Api, status_writer: StatusWriter) -> None:
    api.gone = True
    manifest = endpoint(100, {})
    await status_writer.write(manifest, {}, status("Ready", "True"))
    assert status_writer.status_before(manifest) == {}
    assert status_writer.events.waiting == 0, "no event of a deleted endpoint"
