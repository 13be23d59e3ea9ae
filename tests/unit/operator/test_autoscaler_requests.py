"""Pods of one namespace that do not answer delay no questions to those of others."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import aiohttp

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.autoscaling import autoscaler
from forebay_operator.autoscaling.autoscaler import Autoscaler
from forebay_operator.pods import startup_poller
from forebay_operator.pods.load import PodLoad
from forebay_operator.pods.startup_poller import StartupPoller

SILENT, GOOD = "127.0.0.2", "127.0.0.3"
METRICS = b"forebay_requests_in_flight 3\nforebay_requests_total 9\n"
REPORT = b'{"step": "Compiling"}'


@asynccontextmanager
async def pods(answer: bytes) -> AsyncIterator[int]:
    """A pod that does not answer, and one that answers. Yields the port of both."""

    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # the test is over
            await reader.read(-1)
        writer.close()

    async def answer_good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + answer)
        writer.close()

    async with await asyncio.start_server(be_silent, SILENT, 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        async with await asyncio.start_server(answer_good, GOOD, port):
            yield port


async def test_loads_of_pods() -> None:
    async with pods(METRICS) as port:
        asks = Autoscaler(cast("Any", None), None, lambda *_: None, port=port)
        timeout = aiohttp.ClientTimeout(total=autoscaler.LOAD_TIMEOUT)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            bad = {str(number): SILENT for number in range(2 * autoscaler.CONCURRENT_LOAD_READS)}
            waiting = asyncio.create_task(asks._read_loads(session, ("bad", "one"), bad))
            await asyncio.sleep(0)
            began = time.monotonic()
            loads = await asks._read_loads(session, ("good", "one"), {"a": GOOD})
            assert loads == {"a": PodLoad(3, 9, running=0, waiting=0, asleep=False)}
            assert time.monotonic() - began < autoscaler.LOAD_TIMEOUT
            waiting.cancel()


async def test_reports_of_starts() -> None:
    async with pods(REPORT) as port:
        notified: asyncio.Queue[EndpointKey] = asyncio.Queue()
        asks = StartupPoller(notified.put_nowait, port=port)
        for number in range(startup_poller.CONCURRENT_POLLS):
            asks.follow(("bad", str(number)), {f"bad-{number}": SILENT})
        asks.follow(("good", "one"), {"good": GOOD})
        running = asyncio.create_task(asks.run())
        async with asyncio.timeout(startup_poller.POLL_TIMEOUT):
            assert await notified.get() == ("good", "one")
        running.cancel()
