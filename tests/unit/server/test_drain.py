"""What SIGTERM does."""

import asyncio

import pytest

from forebay_server.drain import Drain
from forebay_server.state import ServerState


class Stops:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_running_requests_finish_before_vllm_stops() -> None:
    state, stops = ServerState(), Stops()
    drain = Drain(state, 60, stops)
    with state.in_flight.one():
        drain.terminate()
        await settle()
        assert state.draining
        assert stops.count == 0
    await settle()
    assert stops.count == 1


async def test_an_idle_server_stops_at_once() -> None:
    state, stops = ServerState(), Stops()
    Drain(state, 60, stops).terminate()
    await settle()
    assert stops.count == 1


@pytest.mark.parametrize("requests", [1, 2])
async def test_the_time_limit_ends_the_drain(requests: int) -> None:
    state, stops = ServerState(), Stops()
    running = [state.in_flight.one() for _ in range(requests)]
    for request in running:
        request.__enter__()
    Drain(state, 0.01, stops).terminate()
    await asyncio.sleep(0.05)
    assert stops.count == 1


async def test_a_second_sigterm_ends_the_drain() -> None:
    state, stops = ServerState(), Stops()
    drain = Drain(state, 60, stops)
    with state.in_flight.one():
        drain.terminate()
        await settle()
        drain.terminate()
        await settle()
        assert stops.count == 1
    await settle()
    assert stops.count == 1
