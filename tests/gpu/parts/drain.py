"""Liveness under load, an engine that stops, and SIGTERM under load: no stream may be cut."""

import asyncio
import os
import signal
import threading
import time
import urllib.error
from contextlib import suppress
from dataclasses import dataclass, field

from bench.load import Work, load
from bench.servers import Server, composed
from tests.gpu import ops
from tests.gpu.plan import MODEL, Run
from tests.gpu.record import Record

LOOK_SECONDS = 0.05
DRAIN_WAIT_TIMEOUT = 60.0


@dataclass
class Load:
    """Streams in their own thread. `failure` is "" if each of them was complete."""

    server: Server
    work: Work
    failure: str = ""
    ended: float = 0.0
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(load(self.server.url, self.server.headers, self.work))
        except Exception as error:  # noqa: BLE001 - whatever cut a stream is the result
            self.failure = f"{type(error).__name__}: {error}"[:200]
        self.ended = time.monotonic()

    def wait_until_all_run(self) -> None:
        """Raises TimeoutError, or RuntimeError if the streams ended before all ran at once."""
        began = time.monotonic()
        while ops.in_flight() < self.work.clients:
            if not self.thread.is_alive():
                raise RuntimeError(f"the streams ended before all of them ran: {self.failure or 'they are too short'}")
            if time.monotonic() - began > DRAIN_WAIT_TIMEOUT:
                raise TimeoutError(f"not all streams ran within {DRAIN_WAIT_TIMEOUT:g} s")
            time.sleep(LOOK_SECONDS)


def measure(run: Run, record: Record) -> None:
    """One server for all: SIGTERM comes last."""
    model = run.model(run.plan.served)
    variables = {"LOAD_FORMAT": "dummy", "FOREBAY_ENGINE_STUCK_SECONDS": str(run.plan.stuck_seconds)}
    work = Work(MODEL, run.plan.drained, run.plan.drained, run.plan.drained_tokens)
    with composed(run.environment(model, **variables)) as server:
        ops.await_status("/readyz", 200, DRAIN_WAIT_TIMEOUT)
        record.put({"streams": work.clients, **probes_under_load(server, work)})
        record.put(stopped_engine(server, run.plan.stuck_seconds))
        record.put({"streams": work.clients, **sigterm_under_load(server, work)})


def probes_under_load(server: Server, work: Work) -> dict[str, str | float]:
    """The answers of the probes while all streams run, and the time of the slowest."""
    running = Load(server, work)
    answers: dict[str, set[int]] = {"/livez": set(), "/readyz": set()}
    slowest, looks = 0.0, 0
    while running.thread.is_alive():
        for path, seen in answers.items():
            began = time.monotonic()
            seen.add(ops.get(path)[0])
            slowest = max(slowest, time.monotonic() - began)
            looks += 1
        time.sleep(LOOK_SECONDS)
    return {
        "probes": looks,
        "livez answers": listed(answers["/livez"]),
        "readyz answers": listed(answers["/readyz"]),
        "slowest probe, ms": round(slowest * 1000, 1),
        "streams cut": running.failure or "none",
    }


def stopped_engine(server: Server, limit: int) -> dict[str, str | float]:
    """SIGSTOP to the engine: seconds until the server counts as not alive, and until it is ready after SIGCONT."""
    engine = server.engine_processes()
    request = threading.Thread(target=lambda: ask_quietly(server), daemon=True)
    for pid in engine:
        os.kill(pid, signal.SIGSTOP)
    try:
        request.start()
        seen = ops.await_status("/livez", 503, limit * 5)
    finally:
        for pid in engine:
            os.kill(pid, signal.SIGCONT)
    ready = ops.await_status("/readyz", 200, DRAIN_WAIT_TIMEOUT)
    request.join(DRAIN_WAIT_TIMEOUT)
    return {
        "limit for a step, s": limit,
        "stopped until livez 503, s": round(seen, 2),
        "continued until readyz 200, s": round(ready, 2),
        "the request": "hangs" if request.is_alive() else "ended",
    }


def sigterm_under_load(server: Server, work: Work) -> dict[str, str | float]:
    """SIGTERM once all streams run: refused requests, whether the streams are complete, and when the server ends."""
    running = Load(server, work)
    running.wait_until_all_run()
    os.kill(server.pid, signal.SIGTERM)
    began = time.monotonic()
    not_ready = ops.await_status("/readyz", 503, DRAIN_WAIT_TIMEOUT)
    alive, refused = ops.get("/livez")[0], set()
    while running.thread.is_alive():
        try:
            refused.add(ops.complete(server, 1)[0])
        except OSError as error:
            if not isinstance(error, urllib.error.HTTPError):
                break  # the port is closed
        time.sleep(LOOK_SECONDS * 4)
    running.thread.join(DRAIN_WAIT_TIMEOUT)
    status = server.process.wait(DRAIN_WAIT_TIMEOUT)
    ended = time.monotonic()
    return {
        "SIGTERM until readyz 503, s": round(not_ready, 2),
        "livez answer": str(alive),
        "answers to new requests": listed(refused),
        "streams cut": running.failure or "none",
        "SIGTERM until the last token, s": round(running.ended - began, 2),
        "last token until exit, s": round(ended - running.ended, 2),
        "exit status": str(status),
    }


def ask_quietly(server: Server) -> None:
    """A request whose outcome is ignored."""
    with suppress(OSError):
        ops.complete(server)


def listed(statuses: set[int]) -> str:
    """Statuses as text."""
    return ", ".join(map(str, sorted(statuses))) or "none"
