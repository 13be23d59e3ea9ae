"""Polls loading pods for the report of their start. The reconciler says which pods; a changed report queues the
endpoint.

A pod that does not answer, or answers nonsense, is not an error. The status then has only the facts from Kubernetes.
Requests are bounded in number, in time and in the size of their answers.
"""

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import aiohttp

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.json_text import parse_json
from forebay_operator.pods.client import get_text
from forebay_operator.status.start_progress import Report, parse_report
from forebay_protocol.pod import OPS_PORT

logger = logging.getLogger(__name__)

POLL_INTERVAL = 5.0
"""Seconds between two polls of one loading pod. It doubles for a pod that does not answer."""

MAX_UNANSWERED_POLLS = 6
"""Polls without an answer after which a run is no longer polled: 5 minutes."""

POLLS_PER_SECOND = 50.0
"""Polls per second, of all pods."""

CONCURRENT_POLLS, CONCURRENT_POLLS_OF_NAMESPACE = 64, 8
"""Concurrent polls, in total and for the pods of one namespace, so that unresponsive pods do not block others."""

POLL_PAUSE = 0.2
"""Seconds until a retry of a poll whose namespace has its maximum of concurrent polls."""

POLL_TIMEOUT = 2.0
"""Seconds for an answer. The server answers from memory, in a separate thread."""

MAX_REPORT_BYTES = 65536


@dataclass
class _PolledRun:
    """A run of a server that is polled."""

    key: EndpointKey
    address: str
    unanswered: int = 0
    """Consecutive polls without an answer."""


@dataclass
class _PolledEndpoint:
    """The polled runs of one endpoint, with the reports of these and of earlier runs."""

    runs: dict[str, _PolledRun] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)


class StartupPoller:
    """Polls starting pods, and keeps their reports by endpoint and run (start_progress.run_of), for one event loop."""

    def __init__(
        self, changed: Callable[[EndpointKey], None], port: int = OPS_PORT, interval: float = POLL_INTERVAL
    ) -> None:
        self._changed = changed
        self._port = port
        self._interval = interval
        self._endpoints: dict[EndpointKey, _PolledEndpoint] = {}
        self._due: list[tuple[float, int, str, _PolledRun]] = []
        self._count = 0
        self._in_flight: Counter[str] = Counter()
        self._news = asyncio.Event()

    def of(self, key: EndpointKey) -> Mapping[str, Report]:
        """The reports of one endpoint's pods."""
        return self._endpoints[key].reports if key in self._endpoints else {}

    def follow(self, key: EndpointKey, addresses: Mapping[str, str], keep: Collection[str] = ()) -> None:
        """Set the pods of an endpoint that are polled. Repeated calls are cheap.

        Args:
            addresses: run -> IP address. Other runs of the endpoint are no longer polled.
            keep: runs whose reports are kept although they are not polled.
        """
        known = self._endpoints.pop(key, _PolledEndpoint())
        reports = {run: report for run, report in known.reports.items() if run in keep or run in addresses}
        runs = {run: known.runs.get(run) or _PolledRun(key, address) for run, address in addresses.items()}
        if runs or reports:
            self._endpoints[key] = _PolledEndpoint(runs, reports)
        for name, run in runs.items():
            if name not in known.runs:
                self._schedule_poll(0.0, name, run)

    async def run(self) -> None:
        """Poll, forever."""
        limit = asyncio.Semaphore(CONCURRENT_POLLS)
        connector = aiohttp.TCPConnector(limit=CONCURRENT_POLLS, force_close=True)
        timeout = aiohttp.ClientTimeout(total=POLL_TIMEOUT)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as polls,
        ):
            while True:
                name, run = await self._next()
                if self._in_flight[run.key[0]] >= CONCURRENT_POLLS_OF_NAMESPACE:
                    self._schedule_poll(POLL_PAUSE, name, run)
                    continue
                await limit.acquire()
                self._in_flight[run.key[0]] += 1
                task = polls.create_task(self._poll(session, name, run))
                task.add_done_callback(partial(self._release, run.key[0], limit))
                await asyncio.sleep(1.0 / POLLS_PER_SECOND)

    def _release(self, namespace: str, limit: asyncio.Semaphore, _: asyncio.Task[None]) -> None:
        limit.release()
        self._in_flight[namespace] -= 1
        if not self._in_flight[namespace]:
            del self._in_flight[namespace]

    def _schedule_poll(self, delay: float, name: str, run: _PolledRun) -> None:
        self._count += 1
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + delay, self._count, name, run))
        self._news.set()

    async def _next(self) -> tuple[str, _PolledRun]:
        """Wait for the next run that is due and still to be polled."""
        while True:
            now = asyncio.get_running_loop().time()
            if self._due and self._due[0][0] <= now:
                _, _, name, run = heapq.heappop(self._due)
                if self._is_followed(name, run):
                    return name, run
                continue
            self._news.clear()
            timeout = self._due[0][0] - now if self._due else None
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._news.wait()

    def _is_followed(self, name: str, run: _PolledRun) -> bool:
        endpoint = self._endpoints.get(run.key)
        return endpoint is not None and endpoint.runs.get(name) is run

    async def _poll(self, session: aiohttp.ClientSession, name: str, run: _PolledRun) -> None:
        report = _parse(await get_text(session, run.address, self._port, "/startup", MAX_REPORT_BYTES))
        if not self._is_followed(name, run):
            return
        if report is None:
            run.unanswered += 1
            if run.unanswered < MAX_UNANSWERED_POLLS:
                self._schedule_poll(self._interval * 2.0**run.unanswered, name, run)
            return
        run.unanswered = 0
        reports = self._endpoints[run.key].reports
        before, reports[name] = reports.get(name), report
        if before is None or _visible(before) != _visible(report):
            self._changed(run.key)
        if report.step != "Ready":
            self._schedule_poll(self._interval, name, run)


def _visible(report: Report) -> tuple[object, ...]:
    """The part of a report that the status shows during the start."""
    return report.step, report.progress, report.variables


def _parse(text: str | None) -> Report | None:
    try:
        return parse_report(parse_json(text)) if text else None
    except Exception:
        logger.debug("a startup report cannot be read", exc_info=True)
        return None
