"""The operator polls a real ops port for the startup progress, and tolerates servers that are no ops port."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.pods.startup_poller import MAX_REPORT_BYTES, StartupPoller
from forebay_operator.status.start_progress import Report, parse_report
from forebay_server.lifecycle.startup import Download, Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.serving.ops_server import OpsServer
from tests.waiting import until as wait_until

KEY, OTHER = ("team", "one"), ("team", "other")


@contextmanager
def ops_port(state: ServerState) -> Iterator[int]:
    server = OpsServer("127.0.0.1", 0, state, lambda: b"")
    server.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def answering(body: bytes, status: int = 200, location: str = "") -> Iterator[tuple[int, list[str]]]:
    """An HTTP server that always sends the same response. Yields its port, and the requested paths."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[tuple[StartupPoller, list[EndpointKey]]]:
    changed: list[EndpointKey] = []
    reports = StartupPoller(changed.append, port=port, interval=0.02)
    task = asyncio.create_task(reports.run())
    try:
        yield reports, changed
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(reports: StartupPoller, step: str) -> Report:
    await wait_until(lambda: getattr(reports.of(KEY).get("run"), "step", None) == step)
    return reports.of(KEY)["run"]


async def test_a_servers_report_is_read_until_it_is_ready() -> None:
    download = Download(total=1000)
    download.add(430)
    state = ServerState(Step.DOWNLOADING, download=download)
    with ops_port(state) as port:
        async with asking(port) as (reports, changed):
            reports.follow(KEY, {"run": "127.0.0.1"})
            report = await until(reports, "Downloading")
            assert report.progress["percent"] == 43
            assert changed == [KEY]
            state.step = Step.READY
            report = await until(reports, "Ready")
            assert set(report.seconds) == {"Downloading"}
            assert changed == [KEY, KEY]


async def test_reports_of_removed_pods_are_dropped() -> None:
    with ops_port(ServerState(Step.COMPILING)) as port:
        async with asking(port) as (reports, changed):
            reports.follow(KEY, {"run": "127.0.0.1"})
            await until(reports, "Compiling")
            reports.follow(KEY, {}, keep={"run"})
            assert reports.of(KEY)["run"].step == "Compiling", "the last step of a run is used after its end"
            reports.follow(KEY, {})
            assert reports.of(KEY) == {}
            reports.follow(OTHER, {"run": "127.0.0.1"})
            await wait_until(lambda: reports.of(OTHER))
            assert (reports.of(KEY), changed) == ({}, [KEY, OTHER])


NONSENSE = [
    (b"", 200),
    (b"no JSON", 200),
    (b"[1]", 200),
    (b'{"step": "Conquering"}', 200),
    (b'{"step": ["Ready"]}', 200),
    (b'{"step": "Ready"}', 500),
    (b"[" * 60000, 200),
    (b'{"step": "Ready", "more": "' + b"x" * MAX_REPORT_BYTES + b'"}', 200),
]


@pytest.mark.parametrize(("body", "status"), NONSENSE)
async def test_an_invalid_report_is_ignored(body: bytes, status: int) -> None:
    with answering(body, status) as (port, asked):
        async with asking(port) as (reports, changed):
            reports.follow(KEY, {"run": "127.0.0.1"})
            await wait_until(lambda: len(asked) > 1)  # the first answer is read by then
            assert (reports.of(KEY), changed) == ({}, [])


async def test_redirects_are_not_followed() -> None:
    with ops_port(ServerState(Step.COMPILING)) as port:
        location = f"http://127.0.0.1:{port}/startup"
        with answering(b"", 302, location) as (other, asked):
            async with asking(other) as (reports, _):
                reports.follow(KEY, {"run": "127.0.0.1"})
                await wait_until(lambda: len(asked) > 1)
                assert reports.of(KEY) == {}


async def test_a_pod_that_does_not_listen_delays_no_other() -> None:
    with socket.socket() as silent, ops_port(ServerState(Step.COMPILING)) as port:
        silent.bind(("127.0.0.2", port))
        silent.listen()
        async with asking(port) as (reports, _):
            reports.follow(("team", "two"), {"silent": "127.0.0.2", "closed": "127.0.0.3"})
            reports.follow(KEY, {"run": "127.0.0.1"})
            await until(reports, "Compiling")
            silent.settimeout(10)
            silent.accept()[0].close()  # it was asked
            assert reports.of(("team", "two")) == {}


def test_invalid_numbers_are_omitted() -> None:
    said = {"step": "Downloading", "percent": float("nan"), "bytesPerSecond": -1, "etaSeconds": "soon", "seconds": {}}
    assert parse_report(said) == Report("Downloading")
    assert parse_report({"step": "Ready", "seconds": {"Importing": 1e300, "Compiling": 2, "Other": 1}}) == Report(
        "Ready", {"Compiling": 2.0}
    )
