"""A proxy before the API server that fails like networks, load balancers and API servers.

It speaks plain HTTP to the operator, which is a separate process, and runs in a thread beside the tests.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from io import BytesIO
from pathlib import Path

import yaml
from aiohappyeyeballs import AddrInfoType
from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader, TCPConnector, web

from tests.integration.listening import stop_listening
from tests.kubectl import Kubectl
from tests.waiting import until

HOP_BY_HOP = ("host", "connection", "transfer-encoding", "content-length", "content-encoding", "accept-encoding")
"""Headers that are not passed on, in either direction."""

LISTED = ("inferenceendpoints", "deployments", "services", "pods")


class Cut(Enum):
    """How a connection ends without an answer."""

    BEFORE = auto()
    """The request never reaches the API server."""

    AFTER = auto()
    """The request takes effect, and the response is lost."""


@dataclass(frozen=True)
class Refusal:
    """An answer that the API server itself never gave."""

    status: int
    reason: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A received request; watches and lists of whole objects are kopf's, all others the operator's own."""

    method: str
    path: str
    watch: bool
    lists: bool
    body: bytes


Rule = Callable[[Asked], Cut | Refusal | None]
"""The fault of a request; None lets it pass."""


class Ending(Enum):
    """How a running watch ends."""

    HALF_A_LINE = 0
    """The connection breaks in the middle of an event."""

    EXPIRED = 410
    """The API server says it: it has forgotten the events since then. A watch that starts there again gets the same."""

    FAILED = 500
    TIMED_OUT = 504
    """The event of the API server in a watch while etcd is unreachable."""


class FaultyProxy:
    """Its attributes can be set at any time; they apply to later requests.

    Attributes:
        rule: returns the fault of each request.
        delay: seconds by which events of watches are delayed.
        listen: is called with each request that reaches the API server and is answered.
        when_cut: is called when the rule has cut a request.
    """

    def __init__(self, upstream: str) -> None:
        self.rule: Rule = lambda _: None
        self.delay = 0.0
        self.listen: Callable[[Asked], None] = lambda _: None
        self.when_cut: Callable[[], None] = lambda: None
        self.port = 0
        self._upstream = upstream
        self._watches: dict[asyncio.Task[None], str] = {}
        self._endings: dict[asyncio.Task[None], Ending] = {}
        self._sockets: list[socket.socket] = []

    def end_watches(self, how: Ending, of: str = "") -> None:
        """End all watches that run, or those whose path ends with `of`."""

        def end() -> None:
            for task, path in list(self._watches.items()):
                if path.endswith(of):
                    self._endings[task] = how
                    task.cancel()

        self._loop.call_soon_threadsafe(end)

    @contextmanager
    def running(self) -> Iterator["FaultyProxy"]:
        """Listen on a free port until the context ends."""
        listens = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(listens)))
        thread.start()
        try:
            assert listens.wait(10)
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(30)

    async def _serve(self, listens: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        connector = TCPConnector(ssl=False, limit=0, socket_factory=self._open)
        timeout = ClientTimeout(total=None)
        async with ClientSession(connector=connector, timeout=timeout) as self._session:
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            listening = socket.create_server(("127.0.0.1", 0))
            await web.SockSite(runner, listening).start()
            self.port = runner.addresses[0][1]
            listens.set()
            await self._stop.wait()
            for task in self._watches:
                task.cancel()
            await stop_listening([listening])
            await runner.cleanup()
        await until(lambda: all(each.fileno() == -1 for each in self._sockets))  # TLS takes leave of its peer

    def _open(self, address: AddrInfoType) -> socket.socket:
        """A socket for a connection to the API server."""
        opened = socket.socket(*address[:3])
        self._sockets = [each for each in self._sockets if each.fileno() != -1] + [opened]
        return opened

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "true"
        sent = await request.read()
        lists = request.method == "GET" and request.path.rsplit("/", 1)[-1] in LISTED and not watch
        asked = Asked(request.method, request.path, watch, lists, sent)
        act = self.rule(asked)
        if isinstance(act, Refusal):
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": act.reason, "code": act.status}
            return web.json_response({**body, "message": "by the proxy"}, status=act.status, headers=act.headers)
        if act is Cut.BEFORE:
            self.when_cut()
            return _cut(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        headers["Accept-Encoding"] = "identity"
        url = f"{self._upstream}{request.raw_path}"
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=BytesIO(sent) if sent else None
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
                if watch and answer.status == 200:
                    response = web.StreamResponse(headers=kept)
                    await response.prepare(request)
                    await self._pass_events(request, answer.content, response)
                    return response
                content = await answer.read()
        except (OSError, ClientError):  # the API server is down
            return _cut(request)
        if answer.status < 400:
            self.listen(asked)
        if act is Cut.AFTER:
            self.when_cut()
            return _cut(request)
        return web.Response(status=answer.status, headers=kept, body=content)

    async def _pass_events(self, request: web.Request, events: StreamReader, response: web.StreamResponse) -> None:
        """Pass a watch on, event by event, until either side or a test ends it."""
        task = asyncio.create_task(self._copy(events, response))
        self._watches[task] = request.path
        try:
            await task
        except (asyncio.CancelledError, OSError):
            how = self._endings.pop(task, None)
            if how is None:
                _cut(request)
                return
            error = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": how.name, "code": how.value}
            content = {"type": "ERROR", "object": {**error, "message": "by the proxy"}}
            line = json.dumps(content).encode()
            if how is Ending.HALF_A_LINE:
                await response.write(line[: len(line) // 2])
                _cut(request)
            else:
                await response.write(line + b"\n")
        finally:
            del self._watches[task]

    async def _copy(self, events: StreamReader, response: web.StreamResponse) -> None:
        async for chunk in events.iter_any():
            if self.delay:
                await asyncio.sleep(self.delay)
            await response.write(chunk)


def _cut(request: web.Request) -> web.Response:
    """End the connection at once."""
    if request.transport:
        request.transport.abort()
    return web.Response()


def kubectl_through(proxy: FaultyProxy, kubectl: Kubectl, folder: Path) -> Kubectl:
    """The same access, by way of the proxy."""
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{proxy.port}"}
    path = folder / "kubeconfig-of-the-proxy"
    path.write_text(yaml.safe_dump(config))
    return Kubectl(kubectl.binary, path, kubectl.namespace)


def server_of(kubectl: Kubectl) -> str:
    """The address of the API server."""
    return str(yaml.safe_load(kubectl.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
