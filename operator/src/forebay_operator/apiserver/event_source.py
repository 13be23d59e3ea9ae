"""Watches the cluster with kopf. Its events become entries of the cache and keys in the work queue. `app` runs it."""

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from itertools import chain, repeat
from typing import Any

import aiohttp
import kopf
import uvloop
from kopf._cogs.structs.references import Insights  # the type of an argument that is public

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.apiserver.cache import Cache, CachedObject, Store
from forebay_operator.work_queue import WorkQueue

logger = logging.getLogger(__name__)

_RESOURCES = {
    names.KIND: (names.GROUP, names.VERSION, names.PLURAL),
    "Deployment": ("apps", "v1", "deployments"),
    "Service": ("v1", "services"),
    "Pod": ("v1", "pods"),
    "EndpointSlice": ("discovery.k8s.io", "v1", "endpointslices"),
}
_OWNED_KINDS = {"Deployment", "Service", "EndpointSlice"}
"""Kinds of children that only the operator creates."""

CHUNK_SIZE = 100
"""Objects of one kind in one page of a list. All five kinds are listed at the same time, and a parsed object takes 60
kB."""

MIN_RESTART_DELAY, MAX_RESTART_DELAY = 1.0, 5.0
"""Seconds before kopf is started again. The delay doubles after each short run."""

LONG_RUN_SECONDS = 10.0
"""After a run of more than these seconds, the delay begins again at its minimum."""

END_TRIES, END_TIMEOUT = 3, 5.0
"""How many times kopf's tasks are cancelled, one second apart; and the seconds in which kopf must end."""

IDLE_TIMEOUT = 1.0
"""Seconds for which kopf keeps a task, with the last body, for an object without events."""


def build_kopf_settings() -> kopf.OperatorSettings:
    """Settings that reduce kopf to its watches: Forebay's label selectors, no events posted, no peering, no
    discovery."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.networking.error_backoffs = _RetryDelays()
    settings.networking.request_timeout, settings.networking.connect_timeout = 60, 10
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.process.ultimate_exiting_timeout = None  # a time-out would kill the process if kopf took longer to end
    settings.queueing.idle_timeout, settings.queueing.exit_timeout = IDLE_TIMEOUT, 0.1
    settings.watching.chunk_size = CHUNK_SIZE
    for kind, selector in labels.SELECTORS.items():
        settings.watching.label_selectors[_RESOURCES[kind][-1]] = selector
    return settings


class _RetryDelays:
    """Seconds before each retry of a list or a watch. The sequence is endless; after its end kopf would exit."""

    def __iter__(self) -> Iterator[float]:
        return chain((0.5, 1.0, 2.0), repeat(3.0))


class EventSource:
    """Follows all objects that the operator watches, for one event loop.

    kopf runs in a separate thread and loop. By design it exits at failures that may pass: an error event of a watch,
    repeated 401 answers, or a deleted CRD. When kopf exits, it ends every task of its loop. EventSource then starts
    kopf again, and kopf lists everything again.

    Attributes:
        stores: the watched objects, by kind.
        relisted: is set when a watch has listed all its objects again.
        trouble: why the cache may be outdated; "" while all is well.
    """

    def __init__(self, queue: WorkQueue[EndpointKey], namespaces: Sequence[str]) -> None:
        self.queue = queue
        self._namespaces = namespaces
        self._thread: threading.Thread | None = None
        self.stores = {kind: Store() for kind in _RESOURCES}
        self.relisted = asyncio.Event()
        self.trouble = ""

    async def run(self) -> None:
        """Watch, forever."""
        loop, pause = asyncio.get_running_loop(), MIN_RESTART_DELAY
        while True:
            began, stop, kopf_loop = loop.time(), asyncio.Event(), uvloop.new_event_loop()
            kopf_loop.set_exception_handler(_ignore)  # if tasks fail together, kopf reads only one exception
            ended: asyncio.Future[str] = loop.create_future()
            arguments = loop, kopf_loop, stop, ended
            self._thread = threading.Thread(target=self._run_kopf, args=arguments, name="kopf", daemon=True)
            self._thread.start()
            try:
                why = await ended
            finally:
                with suppress(RuntimeError):  # its loop is closed: kopf has ended
                    kopf_loop.call_soon_threadsafe(stop.set)
            pause = MIN_RESTART_DELAY if loop.time() - began > LONG_RUN_SECONDS else min(MAX_RESTART_DELAY, 2 * pause)
            self.trouble = f"the watches ended and start again: {why}"
            logger.warning("%s, in %.0f s", self.trouble, pause)
            await asyncio.sleep(pause)

    async def ended(self) -> None:
        """Wait until kopf has ended, for END_TIMEOUT at most. Call it after `run` was cancelled."""
        if self._thread:
            await asyncio.to_thread(self._thread.join, END_TIMEOUT)

    def _notice_listed(self) -> None:
        """Report that all objects were listed again. The purge then finds the objects that were deleted in between."""
        if self.trouble:
            self.trouble = ""
            self.relisted.set()

    def _run_kopf(
        self,
        loop: asyncio.AbstractEventLoop,
        kopf_loop: asyncio.AbstractEventLoop,
        stop: asyncio.Event,
        ended: asyncio.Future[str],
    ) -> None:
        """Run kopf in its own thread and loop until it ends. `ended`, a future of `loop`, gets the reason."""

        def set_reason() -> None:
            if not ended.done():
                ended.set_result(why)

        try:
            why = kopf_loop.run_until_complete(self._follow(loop, stop))
        except (Exception, asyncio.CancelledError) as error:
            logger.debug("kopf ended", exc_info=True)
            why = f"{type(error).__name__}: {error}"
        finally:
            kopf_loop.run_until_complete(kopf_loop.shutdown_asyncgens())
            kopf_loop.close()
        with suppress(RuntimeError):  # the loop is closed: the operator has ended
            loop.call_soon_threadsafe(set_reason)

    async def _follow(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> str:
        """Run kopf's tasks until one of them ends. Returns the reason for its end."""
        scope: dict[str, Any] = {"namespaces": self._namespaces} if self._namespaces else {"clusterwide": True}
        # without it kopf reads the name of the user, and the user of a container may have none
        identity: Any = labels.FIELD_MANAGER
        has_unknown_ca = asyncio.Event()

        def on_unknown_ca() -> None:
            """Stop kopf: it reads the file of CAs again at the next start."""
            has_unknown_ca.set()
            stop.set()

        registry, settings = self._register(loop, self._notice_watches(loop), on_unknown_ca), build_kopf_settings()
        insights = Insights()
        parts = await kopf.spawn_tasks(
            registry=registry, settings=settings, identity=identity, insights=insights, stop_flag=stop, **scope
        )
        known = asyncio.create_task(insights.ready_resources.wait())
        done, _ = await asyncio.wait({*parts, known}, return_when=asyncio.FIRST_COMPLETED)
        if known in done and len(insights.watched_resources) < len(_RESOURCES):  # kopf would never check again
            why = "the API server does not serve all kinds: is the CRD installed?"
        else:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            errors = [error for each in done if not each.cancelled() and (error := each.exception())]
            why = f"{type(errors[0]).__name__}: {errors[0]}"[:500] if errors else "it stopped"
            if has_unknown_ca.is_set():
                why = "the CA of the API server's certificate is not known"
        await _end(parts)
        return why

    def _notice_watches(self, loop: asyncio.AbstractEventLoop) -> aiohttp.TraceConfig:
        """A trace that notices when everything is listed: kopf then has a watch for each kind in each namespace."""
        watched_paths: set[str] = set()

        async def notice(_: aiohttp.ClientSession, __: object, request: aiohttp.TraceRequestEndParams) -> None:
            if "watch" in request.url.query and request.response.status == HTTPStatus.OK:
                watched_paths.add(request.url.path)
                if len(watched_paths) == len(_RESOURCES) * max(1, len(self._namespaces)):
                    loop.call_soon_threadsafe(self._notice_listed)

        traced = aiohttp.TraceConfig()
        traced.on_request_end.append(notice)
        return traced

    def _register(
        self, loop: asyncio.AbstractEventLoop, traced: aiohttp.TraceConfig, on_unknown_ca: Callable[[], None]
    ) -> kopf.OperatorRegistry:
        """Register one event handler for each kind."""
        registry = kopf.OperatorRegistry()
        opened: list[tuple[kopf.ConnectionInfo, kopf.AiohttpSession]] = []

        @kopf.on.login(registry=registry)
        async def login(**arguments: Any) -> kopf.AiohttpSession | None:
            credentials = kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)
            if not isinstance(credentials, kopf.ConnectionInfo):
                return None
            for info, session in opened:  # kopf recognizes credentials that failed before only as the same object
                if info == credentials:
                    return session
            opened.append((credentials, _open_session(credentials, traced, on_unknown_ca)))
            return opened[-1][1]

        for kind, resource in _RESOURCES.items():
            kopf.on.event(*resource, id=kind, registry=registry)(partial(self._read, loop, kind))
        return registry

    async def _read(
        self, loop: asyncio.AbstractEventLoop, kind: str, *, body: kopf.Body, type: str | None, **_: Any
    ) -> None:
        """Read an object in kopf's thread. An object that cannot be read is skipped."""
        try:
            cached = CachedObject.of(body)
        except Exception:
            logger.exception("a %s cannot be read and is skipped", kind)
            return
        for part in ("spec", "status"):  # kopf keeps bodies for a while; at a start it keeps those of all objects
            if isinstance(section := body.get(part), dict):
                section.clear()
        loop.call_soon_threadsafe(self._update_store, kind, type, cached)

    def _update_store(self, kind: str, type: str | None, cached: CachedObject) -> None:
        """Store an object or remove it. Queue the object's endpoint if the change matters to the endpoint.

        Two kinds of events queue nothing: those without a change in the kept fields, and the creation of a child by the
        operator. (A pass that runs before the event of the next child would find that child missing.) kopf's own
        indices are not used: while they are filled, each new object wakes the tasks of all others.
        """
        store = self.stores[kind]
        if type == "DELETED":
            key = store.drop(cached.name, cached.uid)
        else:
            if type is None and cached.name in store.names:
                self.relisted.set()
            key = store.put(cached)
        if key and not (kind in _OWNED_KINDS and type == "ADDED"):
            self.queue.add(key)


class _Response(aiohttp.ClientResponse):
    """A response whose connection is aborted at its end, without a TLS shutdown: the loop may be closed immediately
    after it."""

    def close(self) -> None:
        self._abort()
        super().close()

    def release(self) -> Any:
        self._abort()
        return super().release()

    def _abort(self) -> None:
        """Abort the connection, unless the response was read completely and has released it."""
        if self.connection and self.connection.transport:
            self.connection.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """A connector that aborts idle connections without a TLS shutdown, as `_Response` does.

    It calls `on_unknown_ca` if the API server's certificate is signed by an unknown CA.
    """

    def __init__(self, context: ssl.SSLContext, on_unknown_ca: Callable[[], None]) -> None:
        super().__init__(limit=0, ssl=context)
        self._distrusts = on_unknown_ca

    async def connect(self, *arguments: Any, **named: Any) -> aiohttp.connector.Connection:
        try:
            return await super().connect(*arguments, **named)
        except aiohttp.ClientConnectorCertificateError:
            self._distrusts()
            raise

    async def close(self, *, abort_ssl: bool = True) -> None:
        await super().close(abort_ssl=True)


def _open_session(
    info: kopf.ConnectionInfo, traced: aiohttp.TraceConfig, on_unknown_ca: Callable[[], None]
) -> kopf.AiohttpSession:
    session = aiohttp.ClientSession(
        connector=_Connector(info.as_ssl_context(), on_unknown_ca),
        trace_configs=[traced],
        headers=info.as_http_headers(),
        response_class=_Response,
        proxy=info.proxy_url,
        trust_env=bool(info.trust_env),
    )
    return kopf.AiohttpSession(
        aiohttp_session=session, server=info.server, default_namespace=info.default_namespace, priority=info.priority
    )


async def _end(parts: Collection[asyncio.Task[Any]]) -> None:
    """End kopf's tasks (`parts`). Once cancelled, they close their resources when their subtasks have ended.

    A subtask may have missed its cancellation, and kopf would wait for it forever. So subtasks are cancelled again.
    """
    for part in parts:
        part.cancel()
    for _ in range(END_TRIES):
        await asyncio.wait(parts, timeout=1)
        for task in asyncio.all_tasks() - {*parts, asyncio.current_task()}:
            task.cancel()
    if left := [part.get_name() for part in parts if not part.done()]:
        logger.warning("kopf has not ended: %s", ", ".join(left))


def _ignore(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logger.debug("in kopf: %s", context["message"], exc_info=context.get("exception"))


def build_cache(stores: Mapping[str, Store]) -> Cache:
    """The cache over the stores that the event handlers fill."""
    return Cache(
        endpoints=stores[names.KIND],
        deployments=stores["Deployment"],
        services=stores["Service"],
        pods=stores["Pod"],
        slices=stores["EndpointSlice"],
    )


class _NoDiffs(kopf.DiffBaseStorage):
    """Finds no changes, because no handler needs them. kopf would copy each object three times at every event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return {}

    def store(self, **_: Any) -> None:
        """Store nothing, so that users' objects are not changed."""


class _NoProgress(kopf.ProgressStorage):
    """Remembers no progress of handlers, because kopf never retries the operator's handlers."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Store nothing, so that users' objects are not changed."""

    purge = touch = store

    def clear(self, *, essence: Any) -> Any:
        return essence
