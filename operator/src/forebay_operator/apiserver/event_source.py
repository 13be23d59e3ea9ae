"""kopf watches; here its events become entries of the cache and keys in the work queue, and nothing else happens."""

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
_MADE = {"Deployment", "Service", "EndpointSlice"}
"""Children that nobody but the operator makes."""

CHUNK_SIZE = 100
"""Objects of one kind in one answer of a list: all five kinds are listed at once, and a parsed one takes 60 kB."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 5.0
"""Seconds before kopf is started again; they double while it ends at once."""

LONG_RUN_SECONDS = 10.0
"""Seconds after which kopf did not end at once."""

END_TRIES, END_TIMEOUT = 3, 5.0
"""How often kopf's tasks are cancelled, a second apart, and the seconds in which all of it ends."""

IDLE_TIMEOUT = 1.0
"""Seconds for which kopf keeps a task, and with it the last body, for an object of which nothing is heard."""


def build_kopf_settings() -> kopf.OperatorSettings:
    """kopf as a mere watcher: our label as selector, no events posted, no peering, no look-out for kinds."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.networking.error_backoffs = _Patience()
    settings.networking.request_timeout, settings.networking.connect_timeout = 60, 10
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.process.ultimate_exiting_timeout = None  # it would kill the process if kopf's end took longer
    settings.queueing.idle_timeout, settings.queueing.exit_timeout = IDLE_TIMEOUT, 0.1
    settings.watching.chunk_size = CHUNK_SIZE
    for kind, selector in labels.SELECTORS.items():
        settings.watching.label_selectors[_RESOURCES[kind][-1]] = selector
    return settings


class _Patience:
    """Seconds before each further attempt of a list or a watch. They never end, as kopf would, with the operator."""

    def __iter__(self) -> Iterator[float]:
        return chain((0.5, 1.0, 2.0), repeat(3.0))


class EventSource:
    """Follows all that the operator watches, for one event loop.

    kopf runs in a thread and a loop of its own, because it ends by design at what passes: at an error that the API
    server tells in a watch, at 401 for a while, where the CRD is deleted. And when it ends, it ends every task of its
    loop. Here it is started again, and lists everything anew.

    Attributes:
        stores: what there is, by kind.
        relisted: set when a watch has listed all its objects again.
        trouble: why what is known may be old; "" while all is well.
    """

    def __init__(self, queue: WorkQueue[EndpointKey], namespaces: Sequence[str]) -> None:
        self.queue = queue
        self._namespaces = namespaces
        self._thread: threading.Thread | None = None
        self.stores = {kind: Store() for kind in _RESOURCES}
        self.relisted = asyncio.Event()
        self.trouble = ""

    async def run(self) -> None:
        """Watch, for ever."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            began, stop, its_loop = loop.time(), asyncio.Event(), uvloop.new_event_loop()
            its_loop.set_exception_handler(_ignore)  # of tasks that fail together one is asked for
            ended: asyncio.Future[str] = loop.create_future()
            arguments = loop, its_loop, stop, ended
            self._thread = threading.Thread(target=self._run_kopf, args=arguments, name="kopf", daemon=True)
            self._thread.start()
            try:
                why = await ended
            finally:
                with suppress(RuntimeError):  # its loop is closed: it has ended
                    its_loop.call_soon_threadsafe(stop.set)
            pause = FIRST_PAUSE if loop.time() - began > LONG_RUN_SECONDS else min(LONGEST_PAUSE, 2 * pause)
            self.trouble = f"the watches ended and start again: {why}"
            logger.warning("%s, in %.0f s", self.trouble, pause)
            await asyncio.sleep(pause)

    async def ended(self) -> None:
        """Wait until kopf has ended, some seconds at most, when `run` was cancelled."""
        if self._thread:
            await asyncio.to_thread(self._thread.join, END_TIMEOUT)

    def _settle(self) -> None:
        """All is listed again. What was deleted meanwhile is found by the purge."""
        if self.trouble:
            self.trouble = ""
            self.relisted.set()

    def _run_kopf(
        self,
        loop: asyncio.AbstractEventLoop,
        its_loop: asyncio.AbstractEventLoop,
        stop: asyncio.Event,
        ended: asyncio.Future[str],
    ) -> None:
        """Run kopf until it ends, in a thread and a loop of its own; `ended`, of our loop, gets the reason."""

        def set_reason() -> None:
            if not ended.done():
                ended.set_result(why)

        try:
            why = its_loop.run_until_complete(self._follow(loop, stop))
        except (Exception, asyncio.CancelledError) as error:
            logger.debug("kopf ended", exc_info=True)
            why = f"{type(error).__name__}: {error}"
        finally:
            its_loop.run_until_complete(its_loop.shutdown_asyncgens())
            its_loop.close()
        with suppress(RuntimeError):  # the loop is closed: the operator has ended
            loop.call_soon_threadsafe(set_reason)

    async def _follow(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> str:
        """Have kopf call us until a part of it ends; why it did."""
        where: dict[str, Any] = {"namespaces": self._namespaces} if self._namespaces else {"clusterwide": True}
        # kopf would ask for the name of the user, and the user of a container has none
        identity: Any = labels.FIELD_MANAGER
        distrusted = asyncio.Event()

        def distrusts() -> None:
            """The file of CAs is read again at the next start."""
            distrusted.set()
            stop.set()

        registry, settings = self._register(loop, self._notice_watches(loop), distrusts), build_kopf_settings()
        insights = Insights()
        parts = await kopf.spawn_tasks(
            registry=registry, settings=settings, identity=identity, insights=insights, stop_flag=stop, **where
        )
        known = asyncio.create_task(insights.ready_resources.wait())
        done, _ = await asyncio.wait({*parts, known}, return_when=asyncio.FIRST_COMPLETED)
        if known in done and len(insights.watched_resources) < len(_RESOURCES):  # kopf would never look again
            why = "the API server does not serve all kinds: is the CRD installed?"
        else:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            errors = [error for each in done if not each.cancelled() and (error := each.exception())]
            why = f"{type(errors[0]).__name__}: {errors[0]}"[:500] if errors else "it stopped"
            if distrusted.is_set():
                why = "the CA of the API server's certificate is not known"
        await _end(parts)
        return why

    def _notice_watches(self, loop: asyncio.AbstractEventLoop) -> aiohttp.TraceConfig:
        """Notice when everything is listed: then kopf watches each kind, in each namespace."""
        begun: set[str] = set()

        async def notice(_: aiohttp.ClientSession, __: object, request: aiohttp.TraceRequestEndParams) -> None:
            if "watch" in request.url.query and request.response.status == HTTPStatus.OK:
                begun.add(request.url.path)
                if len(begun) == len(_RESOURCES) * max(1, len(self._namespaces)):
                    loop.call_soon_threadsafe(self._settle)

        traced = aiohttp.TraceConfig()
        traced.on_request_end.append(notice)
        return traced

    def _register(
        self, loop: asyncio.AbstractEventLoop, traced: aiohttp.TraceConfig, distrusts: Callable[[], None]
    ) -> kopf.OperatorRegistry:
        """An event handler for the endpoints and one for each kind of child."""
        registry = kopf.OperatorRegistry()
        opened: list[tuple[kopf.ConnectionInfo, kopf.AiohttpSession]] = []

        @kopf.on.login(registry=registry)
        async def login(**arguments: Any) -> kopf.AiohttpSession | None:
            found = kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)
            if not isinstance(found, kopf.ConnectionInfo):
                return None
            for info, session in opened:  # as credentials that failed before kopf knows the same again
                if info == found:
                    return session
            opened.append((found, _open_session(found, traced, distrusts)))
            return opened[-1][1]

        for kind, resource in _RESOURCES.items():
            kopf.on.event(*resource, id=kind, registry=registry)(partial(self._read, loop, kind))
        return registry

    async def _read(
        self, loop: asyncio.AbstractEventLoop, kind: str, *, body: kopf.Body, type: str | None, **_: Any
    ) -> None:
        """Read an object in kopf's thread. One that cannot be read is left out."""
        try:
            kept = CachedObject.of(body)
        except Exception:
            logger.exception("a %s cannot be read and is skipped", kind)
            return
        for part in ("spec", "status"):  # kopf keeps bodies for a while, at a start those of all objects at once
            if isinstance(found := body.get(part), dict):
                found.clear()
        loop.call_soon_threadsafe(self._take, kind, type, kept)

    def _take(self, kind: str, type: str | None, kept: CachedObject) -> None:
        """Keep an object or forget it.

        An event that tells nothing new puts no key into the queue: an object is as it was in all that somebody reads,
        or it is one that we have just made. (Were one child looked at before the news of the next, that one would seem
        to be missing.) kopf's own indices are not used: while they are filled, each object that comes wakes those of
        all others.
        """
        store = self.stores[kind]
        if type == "DELETED":
            key = store.drop(kept.name, kept.uid)
        else:
            if type is None and kept.name in store.names:
                self.relisted.set()
            key = store.put(kept)
        if key and not (kind in _MADE and type == "ADDED"):
            self.queue.add(key)


class _Response(aiohttp.ClientResponse):
    """An answer that ends with its connection, without TLS's farewell: its loop may be closed at once."""

    def close(self) -> None:
        self._abort()
        super().close()

    def release(self) -> Any:
        self._abort()
        return super().release()

    def _abort(self) -> None:
        """What was read to its end has given its connection back."""
        if self.connection and self.connection.transport:
            self.connection.transport.abort()


class _Connector(aiohttp.TCPConnector):
    """The same for the connections that wait for another request. Calls `distrusts` where the API server has a
    certificate by no CA that is known."""

    def __init__(self, context: ssl.SSLContext, distrusts: Callable[[], None]) -> None:
        super().__init__(limit=0, ssl=context)
        self._distrusts = distrusts

    async def connect(self, *arguments: Any, **named: Any) -> aiohttp.connector.Connection:
        try:
            return await super().connect(*arguments, **named)
        except aiohttp.ClientConnectorCertificateError:
            self._distrusts()
            raise

    async def close(self, *, abort_ssl: bool = True) -> None:
        await super().close(abort_ssl=True)


def _open_session(
    info: kopf.ConnectionInfo, traced: aiohttp.TraceConfig, distrusts: Callable[[], None]
) -> kopf.AiohttpSession:
    session = aiohttp.ClientSession(
        connector=_Connector(info.as_ssl_context(), distrusts),
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
    """End kopf: its parts end once they are cancelled, and close what they have opened, when the tasks below them have
    ended. Of these one may have missed that it was cancelled, for which kopf's own end waits for ever."""
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
    """The cache over what the handlers fill."""
    return Cache(
        endpoints=stores[names.KIND],
        deployments=stores["Deployment"],
        services=stores["Service"],
        pods=stores["Pod"],
        slices=stores["EndpointSlice"],
    )


class _NoDiffs(kopf.DiffBaseStorage):
    """Finds no changes, as nobody asks for them: for that kopf would copy each object three times at every event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return {}

    def store(self, **_: Any) -> None:
        """Nothing is written to users' objects."""


class _NoProgress(kopf.ProgressStorage):
    """Remembers no handlers: none of ours is ever repeated."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is written to users' objects."""

    purge = touch = store

    def clear(self, *, essence: Any) -> Any:
        return essence
