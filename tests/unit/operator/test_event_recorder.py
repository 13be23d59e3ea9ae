"""Events: one object for each reason, counted, never too many, and never an error for anybody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from forebay_operator.apiserver.event_recorder import MAX_WAITING, EventRecorder
from tests.kubectl import Manifest
from tests.waiting import until


class Api:
    """Accepts writes. On demand it fails, or knows no object."""

    def __init__(self) -> None:
        self.created: list[Manifest] = []
        self.patched: list[Manifest] = []
        self.attempts = 0
        self.forgetful = False
        self.broken = False

    async def write(self, manifest: Manifest, patch: Manifest | None) -> bool:
        self.attempts += 1
        if self.broken:
            raise OSError("no API server")
        if patch is None:
            self.created.append(manifest)
        elif self.forgetful:
            return False
        else:
            self.patched.append({"name": manifest["metadata"]["name"], **patch})
        return True


@asynccontextmanager
async def recording(api: Api) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(api.write, rate=1000)  # type: ignore[arg-type]
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def settle(recorder: EventRecorder) -> None:
    """Wait until all that was recorded was written."""
    await until(lambda: recorder.waiting == 0)


def ready(reason: str, message: str = "words") -> Manifest:
    return {"type": "Ready", "status": "True", "reason": reason, "message": message}


KEY = ("team", "one")


async def test_a_transition_becomes_an_event_of_the_endpoint() -> None:
    api = Api()
    async with recording(api) as recorder:
        recorder.record_transition(KEY, "u", ready("QuotaExceeded"))
        recorder.record_transition(KEY, "u", ready("Ready"))
        await settle(recorder)
    warning, normal = api.created
    assert warning["involvedObject"]["kind"] == "InferenceEndpoint"
    assert (warning["involvedObject"]["name"], warning["involvedObject"]["uid"]) == ("one", "u")
    assert [(each["type"], each["reason"], each["count"]) for each in (warning, normal)] == [
        ("Warning", "QuotaExceeded", 1),
        ("Normal", "Ready", 1),
    ]


async def test_a_flapping_endpoint_increases_counts_and_creates_no_events() -> None:
    api = Api()
    async with recording(api) as recorder:
        for number in range(6):
            recorder.record_transition(KEY, "u", ready(("Ready", "ServerFailed")[number % 2], str(number)))
            await settle(recorder)
    assert [each["reason"] for each in api.created] == ["Ready", "ServerFailed"]
    assert [(each["count"], each["message"]) for each in api.patched] == [(2, "2"), (2, "3"), (3, "4"), (3, "5")]


async def test_events_faster_than_the_writes_are_counted_together() -> None:
    api = Api()
    async with recording(api) as recorder:
        recorder.record(KEY, "u", "Ready", "first", warning=False)
        await settle(recorder)
        for number in range(100):
            recorder.record(KEY, "u", "Ready", str(number), warning=False)
        await settle(recorder)
    assert len(api.created) == 1
    assert [(each["count"], each["message"]) for each in api.patched] == [(101, "99")]


async def test_an_event_that_expired_is_created_again() -> None:
    api = Api()
    async with recording(api) as recorder:
        recorder.record(KEY, "u", "Ready", "first", warning=False)
        await settle(recorder)
        api.forgetful = True
        recorder.record(KEY, "u", "Ready", "second", warning=False)
        await settle(recorder)
    assert [(each["message"], each["count"]) for each in api.created] == [("first", 1), ("second", 1)]
    assert len({each["metadata"]["name"] for each in api.created}) == 2


async def test_a_failing_api_server_and_a_flood_of_events_are_tolerated() -> None:
    api = Api()
    api.broken = True
    async with recording(api) as recorder:
        for number in range(MAX_WAITING * 2):
            recorder.record(("team", f"e{number}"), f"u{number}", "Ready", "words", warning=False)
        await settle(recorder)
        assert api.attempts == MAX_WAITING
        api.broken = False
        recorder.record(KEY, "u", "Ready", "words", warning=False)
        await settle(recorder)
    assert [each["involvedObject"]["name"] for each in api.created][-1] == "one"
    assert len(api.created) <= MAX_WAITING


async def test_a_long_message_is_cut_to_the_limit_of_the_api_server() -> None:
    api = Api()
    async with recording(api) as recorder:
        recorder.record(KEY, "u", "ServerFailed", "ä" * 5000, warning=True)
        await settle(recorder)
    assert len(api.created[0]["message"].encode()) <= 1024
