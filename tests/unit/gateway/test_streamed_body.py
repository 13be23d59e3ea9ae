"""A body that is read as a stream: waiting bytes are bounded and counted, and have a time limit."""

import asyncio

import pytest

from forebay_gateway.fairness.quotas import Quota, Reservation
from forebay_gateway.fairness.scheduler import Reader
from forebay_gateway.http.body_stream import MAX_UNREAD_BYTES
from forebay_gateway.http.errors import Refused
from forebay_gateway.proxy.streamed_body import STREAMED_BYTES, STREAMED_STEP_BYTES, StreamedBody
from tests.waiting import until


class ClientTransport(asyncio.Transport):
    """Knows whether it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Scene:
    def __init__(self, seconds: float = 60, quota: int = 1 << 30) -> None:
        self.transport, self.quota = ClientTransport(), Quota(quota, share=1)
        self.refused: list[Refused] = []
        reserved = Reservation(self.quota, "team")
        self.body = StreamedBody(Reader(self.transport), reserved, seconds, self.refused.append)


async def test_reading_from_the_client_pauses_until_the_body_is_read() -> None:
    scene = Scene()
    scene.body.receive(b"x" * MAX_UNREAD_BYTES, complete=False)
    assert scene.transport.reading
    scene.body.receive(b"y", complete=False)
    paused = not scene.transport.reading
    assert len(await scene.body.read()) == MAX_UNREAD_BYTES + 1
    assert (paused, scene.transport.reading) == (True, True)
    scene.body.receive(b"z", complete=True)
    assert [await scene.body.read() for _ in range(2)] == [b"z", b""]


async def test_a_streamed_body_counts_up_to_two_parts() -> None:
    scene = Scene()
    for _ in range(4):
        scene.body.receive(bytes(STREAMED_BYTES // 2), complete=False)
        await scene.body.read()
    assert scene.quota.used == STREAMED_BYTES
    with pytest.raises(Refused, match="Too many"):
        Scene(quota=10).body.receive(bytes(11), complete=False)
    scene.body.close()


async def test_a_slow_client_is_rejected_and_a_paused_one_is_not() -> None:
    scene = Scene(seconds=0.05)
    scene.body.receive(bytes(MAX_UNREAD_BYTES + 1), complete=False)
    with pytest.raises(TimeoutError):
        await until(lambda: scene.refused, seconds=0.2)
    await scene.body.read()
    await until(lambda: scene.refused)
    assert scene.refused[0].error.status == 408
    scene.body.fail(scene.refused[0])
    with pytest.raises(Refused):
        await scene.body.read()


async def test_each_part_has_the_time_limit_of_a_body() -> None:
    scene = Scene(seconds=0.3)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await until(lambda: scene.refused, seconds=0.1)
        scene.body.receive(bytes(STREAMED_STEP_BYTES), complete=False)
        await scene.body.read()
    assert not scene.refused
    scene.body.close()
