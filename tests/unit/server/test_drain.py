"""The effects of SIGTERM."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from forebay_server.lifecycle.drain import Drain, stop_at_once_on_sigterm
from forebay_server.lifecycle.state import ServerState
from tests.waiting import until


class Stops:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def answer(state: ServerState, finished: asyncio.Event) -> None:
    """A request that runs until `finished`."""
    with state.in_flight.one():
        await finished.wait()


async def test_running_requests_finish_before_vllm_stops() -> None:
    state, stops, finished = ServerState(), Stops(), asyncio.Event()
    request = asyncio.create_task(answer(state, finished))
    await settle()
    Drain(state, 60, stops).terminate()
    await settle()
    assert state.draining
    assert stops.count == 0
    finished.set()
    await request
    await settle()
    assert stops.count == 1


async def test_an_idle_server_stops_at_once() -> None:
    state, stops = ServerState(), Stops()
    Drain(state, 60, stops).terminate()
    await settle()
    assert stops.count == 1


async def test_the_time_limit_ends_requests_that_still_run() -> None:
    state, stops = ServerState(), Stops()
    requests = [asyncio.create_task(answer(state, asyncio.Event())) for _ in range(3)]
    await settle()
    Drain(state, 0.01, stops).terminate()
    results = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert stops.count == 1


async def test_a_second_sigterm_ends_requests_that_still_run() -> None:
    state, stops = ServerState(), Stops()
    request = asyncio.create_task(answer(state, asyncio.Event()))
    await settle()
    drain = Drain(state, 60, stops)
    drain.terminate()
    await settle()
    assert stops.count == 0
    drain.terminate()
    with pytest.raises(asyncio.CancelledError):
        await request
    await settle()
    assert stops.count == 1


@pytest.fixture
def sigterm() -> Iterator[None]:
    set_handler, before = signal.signal, signal.getsignal(signal.SIGTERM)
    yield
    signal.signal = set_handler
    signal.signal(signal.SIGTERM, before)


async def test_sigterm_begins_the_drain_despite_earlier_handlers(sigterm: None) -> None:
    state, stops, finished = ServerState(), Stops(), asyncio.Event()
    stop_at_once_on_sigterm()
    before = signal.signal
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, finished.set)
    Drain(state, 60, stops).install()
    assert signal.signal is before, "uvloop keeps the handler that was set at its import"
    request = asyncio.create_task(answer(state, finished))
    await settle()
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: state.draining)
    assert stops.count == 0
    finished.set()
    await request
    await settle()
    assert stops.count == 1


def test_sigterm_during_the_start_ends_the_process_even_if_exceptions_are_lost() -> None:
    script = """
import os, signal
from forebay_server.lifecycle.drain import stop_at_once_on_sigterm
stop_at_once_on_sigterm()
def lost(*_): raise KeyboardInterrupt
signal.signal(signal.SIGTERM, lost)
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    pass
print("still here", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
