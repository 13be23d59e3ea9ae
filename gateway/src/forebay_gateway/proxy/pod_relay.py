"""Relays a request to a pod of its endpoint. If no pod is ready, the request waits (activator).

The handler calls it, once it knows the endpoint.
"""

import errno
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.endpoints.balancer import SUSPECT_SECONDS, Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.event_waiting import wait_for_event
from forebay_gateway.fairness.budgets import Budgets
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.http import errors
from forebay_gateway.http.body import BodyFields, read_fields, read_query
from forebay_gateway.http.errors import Refused
from forebay_gateway.http.messages import REQUEST_ID, render_request, replace_line
from forebay_gateway.http.routes import RouteKind
from forebay_gateway.metrics import ANSWERS, RELAYED
from forebay_gateway.proxy import worker_affinity
from forebay_gateway.proxy.admission import Admission
from forebay_gateway.proxy.client_connection import ClientConnection
from forebay_gateway.proxy.upstream import LateUpstream, Upstream, connect
from forebay_gateway.proxy.worker_affinity import ANY_WORKER, RequestedWorker
from forebay_gateway.settings import MIB
from forebay_kube.endpoint_key import EndpointKey
from forebay_protocol.errors import MODEL_MISSING

MAX_AFFINITY_BODY_BYTES = 4 << 20
"""Bytes of a body that is parsed only to find its conversation: 10 ms of CPU."""

OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of the system if this process or machine has too many connections."""

COMMENTS = b"x-forebay-comments"
"""A request with the value `none` in this header gets no comments while it waits."""

NEEDS_MODEL = frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/v1/responses"})
"""Paths that need a model, as in forebay_server's routes. /v1/completions uses the served model by default."""


@dataclass
class PodRequest:
    """A complete request for a pod."""

    client: ClientConnection
    admission: Admission
    key: EndpointKey
    body: bytes | bytearray
    fields: BodyFields | None
    began: float
    worker: RequestedWorker = ANY_WORKER

    def render_head(self, *, keys: bool) -> bytes:
        """Render the head for the pod. `keys`: whether the pod checks API keys. Only then the pod gets the key."""
        admission = self.admission
        head = replace_line(admission.head, REQUEST_ID, admission.request_id)
        size, web_socket = len(self.body), admission.web_socket
        return render_request(head, admission.path.target, size, web_socket=web_socket, keys=keys)

    def take_body(self) -> bytes | bytearray:
        """Hand the body over to the caller."""
        body, self.body = self.body, b""
        return body

    def affinity(self, pods: int) -> bytes:
        """The digest of the request's conversation; b"" if it is unknown or there is only one pod."""
        if self.fields is None and pods > 1 and 0 < len(self.body) <= MAX_AFFINITY_BODY_BYTES:
            self.fields = read_fields(self.admission.head.get(b"content-type"), self.body)
        return self.fields.affinity if self.fields else b""


class PodRelay:
    """Relays all requests of this process."""

    def __init__(self, directory: Directory, activator: Activator, balancer: Balancer, budgets: Budgets) -> None:
        self._directory = directory
        self._activator = activator
        self._balancer = balancer
        self._limits = budgets.limits
        self._scheduler = budgets.scheduler

    async def relay(self, request: PodRequest) -> None:
        """Relay a request to a pod, and the answer to the client. Raises Refused."""
        while not await self._try(request):
            pass

    async def _try(self, request: PodRequest) -> bool:
        """Relay a request to a pod. If no pod is ready, wait first. Returns whether a pod took it. Raises Refused."""
        ready: Sequence[Address] = self._balancer.usable(self._directory.ready(request.key))
        if not ready:
            ready = await self._wait_for_pods(request)
        pod = self._balancer.find(ready, request.worker.name)
        if pod is None and request.worker.strict:
            pod = await self._wait_for_worker(request)
        pod = pod or self._balancer.pick(ready, request.affinity(len(ready)))
        if pod is None:
            return False
        client, admission = request.client, request.admission
        if client.streams:
            upstream: Upstream = LateUpstream(client, admission.api)
        else:
            upstream = Upstream(client, web_socket=admission.web_socket, worker=pod.name)
        with self._balancer.at(pod):
            try:
                await connect(upstream, pod, self._limits.connect_seconds)
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:  # not the pod's fault
                    raise Refused(errors.BUSY) from error
                self._balancer.suspect(pod)
                return False
            with RELAYED.track_inprogress():
                await self._pass_through(request, upstream)
        return True

    async def _pass_through(self, request: PodRequest, upstream: Upstream) -> None:
        """Send the request to the connected pod, and its answer to the client.

        Raises Refused if the pod gave no valid answer, and the client has received nothing.
        """
        client = request.client
        head = request.render_head(keys=request.key not in self._directory.open())
        try:
            upstream.send(head, request.take_body(), self._limits.write_seconds)
            client.attach(upstream)
            error = await upstream.ended
        finally:
            upstream.transport.abort()
        if not upstream.answered:
            client.release()
            raise error if isinstance(error, Refused) else Refused(errors.NO_ANSWER)
        ANSWERS.labels("relayed").inc()
        client.detach(error)

    def check_worker(self, key: EndpointKey, worker: RequestedWorker) -> None:
        """Raise Refused if the request needs one particular pod, and the endpoint has no such pod."""
        if worker.strict:
            pods = [*self._directory.ready(key), *self._directory.unready(key)]
            if not worker.name or all(pod.name != worker.name for pod in pods):
                raise Refused(worker_affinity.WORKER_GONE)

    async def _wait_for_worker(self, request: PodRequest) -> Address:
        """Wait until the pod that a request asks for can be tried. Raises Refused."""
        deadline = request.began + self._limits.hold_seconds
        with self._directory.changes(request.key) as changed, self._activator.held(request.key):
            while True:
                changed.clear()
                self.check_worker(request.key, request.worker)
                if pod := self._balancer.find(self._directory.ready(request.key), request.worker.name):
                    return pod
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Refused(worker_affinity.WORKER_LATE)
                await wait_for_event(changed, min(left, SUSPECT_SECONDS))

    async def _wait_for_pods(self, request: PodRequest) -> list[Address]:
        """Wait for pods. Raises Refused, and raises it immediately for a request that every pod would refuse."""
        key = request.key
        if request.admission.path.kind not in (RouteKind.ENGINE, RouteKind.JOBS):
            raise Refused(errors.AT_ZERO)
        fields = request.fields
        if fields is None:
            fields = request.fields = await read_request_fields(
                request.client, request.admission, request.body, self._scheduler
            )
        endpoint = self._directory.endpoint(key)
        if endpoint and fields.model and endpoint.all_models and fields.model not in endpoint.models:
            raise Refused(errors.no_model(fields.model))
        head = request.admission.head
        streams = fields.stream and head.version == "1.1"  # HTTP/1.0 has no chunks
        streams = streams and head.get(COMMENTS).lower() != "none"
        return await self._activator.hold(key, request.began, comment=request.client.comment if streams else None)


async def read_request_fields(
    client: ClientConnection, admission: Admission, body: bytes | bytearray, scheduler: FairScheduler
) -> BodyFields:
    """Read the fields of a body that must be valid before a pod is started for it. Raises Refused."""
    if admission.web_socket:
        fields = read_query(admission.head.target)
    else:
        async with scheduler.exclusive_step(client.tenant) if len(body) > MIB else nullcontext():
            fields = read_fields(admission.head.get(b"content-type"), body)
    if fields.dense:
        raise Refused(errors.TOO_MANY_VALUES)
    if not fields.valid:
        raise Refused(errors.BAD_JSON)
    if not fields.model and (admission.key is None or admission.path.canonical in NEEDS_MODEL):
        raise Refused(MODEL_MISSING)
    return fields
