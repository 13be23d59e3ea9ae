"""Handles a request: checks the key, finds the endpoint, and then answers itself or lets a pod answer (pod_relay).

Client connections call it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.batches import http_api as batches
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.endpoints.key_refresh import KeyRefreshRequests, peek_model
from forebay_gateway.fairness.budgets import Budgets
from forebay_gateway.http import errors
from forebay_gateway.http.errors import Refused
from forebay_gateway.http.job_operations import named_operation
from forebay_gateway.http.messages import REQUEST_ID, Head
from forebay_gateway.http.parser import BodyLimit
from forebay_gateway.http.routes import Path, RouteKind, is_upload, read_path
from forebay_gateway.job_services import JobServices
from forebay_gateway.jobs.http_api import JobApiCall
from forebay_gateway.proxy import local_answers
from forebay_gateway.proxy.admission import Admission
from forebay_gateway.proxy.client_connection import ClientConnection
from forebay_gateway.proxy.pod_relay import PodRelay, PodRequest, read_request_fields
from forebay_gateway.proxy.worker_affinity import read_worker
from forebay_kube.endpoint_key import EndpointKey
from forebay_protocol.errors import MISSING_KEY, WRONG_KEY, body_too_large
from forebay_protocol.request_id import choose_id
from forebay_protocol.routes import OWN_URLS, SHARED_URLS, not_found

MAX_FORM_OVERHEAD = 64 << 10
"""Bytes of the form around a file: more than 16 parts of 2 KiB headers and 512 bytes."""


@dataclass
class RequestHandler:
    """Handles all requests of this process.

    Attributes:
        find_jobs: returns the services for the job and batch APIs; None while jobs are off.
    """

    directory: Directory
    keys: KeyAuthorizer
    activator: Activator
    balancer: Balancer
    budgets: Budgets
    find_jobs: Callable[[], JobServices | None] = lambda: None
    draining: bool = False
    key_refreshes: KeyRefreshRequests = field(default_factory=KeyRefreshRequests)

    def __post_init__(self) -> None:
        self.limits = self.budgets.limits
        self._relay = PodRelay(self.directory, self.activator, self.balancer, self.budgets)
        self._body_limit = BodyLimit(self.limits.body_bytes, body_too_large(self.limits.body_bytes))

    def drain(self) -> None:
        """Refuse new requests with 503, because the gateway shuts down."""
        self.draining = True

    def admit(self, port: EndpointKey | None, head: Head) -> Admission:
        """Decide from the head alone. The key is checked before any other error is reported. Raises Refused."""
        if self.draining:
            raise Refused(errors.DRAINING)
        own = port is not None
        path = read_path(head.method, head.target, shared=not own)
        if path is None and head.is_preflight:  # so that a page can read the 404 that follows
            path = Path("", "/", head.target, RouteKind.PASSIVE)
        if path and (path.kind is RouteKind.PROBE or head.is_preflight):  # neither needs a key
            if head.has_body:
                raise Refused(errors.NO_BODY)
            return Admission(head, path, port, choose_id(head.get(REQUEST_ID)), known=False)
        if port is not None:
            self._authorize(port, head)
        elif path is None or not path.endpoint:
            authorized = self._authorized_endpoints(head)
        else:
            port, authorized = self._find_endpoint(unquote(path.endpoint), head), frozenset()
        if path is None and not own and (operation := named_operation(head.path)):
            raise Refused(errors.bad_operation(head.method, head.path, operation))
        if path is None:
            raise Refused(not_found(head.method, head.path, OWN_URLS if own else SHARED_URLS))
        return Admission(
            head,
            path,
            port,
            choose_id(head.get(REQUEST_ID)),
            authorized if port is None else frozenset(),
            streams_body=self._has_bucket and is_upload(head.method, head.target, shared=not own),
        )

    @property
    def _has_bucket(self) -> bool:
        jobs = self.find_jobs()
        return jobs is not None and jobs.batches.has_bucket

    def body_limit(self, port: EndpointKey | None, head: Head) -> BodyLimit:
        """The limit of a request's body."""
        if not is_upload(head.method, head.target, shared=port is None):
            return self._body_limit
        max_bytes, max_file_bytes = self.limits.body_bytes, self.limits.file_bytes
        if self._has_bucket:
            return BodyLimit(max_file_bytes + MAX_FORM_OVERHEAD, errors.file_too_large(max_file_bytes))
        return BodyLimit(max_bytes, errors.file_too_large_for_store(max_bytes, max_file_bytes))

    def _authorize(self, key: EndpointKey, head: Head) -> None:
        if key in self.directory.open():
            return
        if not head.key:
            raise Refused(MISSING_KEY)
        self.key_refreshes.note([key])
        if not self.keys.authorizes(head.key, key):
            raise Refused(WRONG_KEY)

    def _authorized_endpoints(self, head: Head) -> frozenset[EndpointKey]:
        """The endpoints that a request without an endpoint in its URL may use. Raises Refused if there is none.

        With a key, these are the endpoints that the key opens. Without a key, these are the endpoints that need no key.
        So an endpoint of one tenant cannot receive the requests of others, and cannot make them ambiguous.
        """
        authorized = self.keys.endpoints_for(head.key) if head.key else self.directory.open()
        if head.key:
            self.key_refreshes.note(authorized)
        if not authorized:
            raise Refused(WRONG_KEY if head.key else MISSING_KEY)
        return authorized

    def _find_endpoint(self, name: str, head: Head) -> EndpointKey:
        """Look up an endpoint by ID. Raises Refused.

        A caller without a valid key gets 401, not 404, so that IDs cannot be probed.
        """
        endpoint = self.directory.find(name)
        if endpoint and head.key:
            self.key_refreshes.note([endpoint.key])
        if endpoint and (endpoint.open or self.keys.authorizes(head.key, endpoint.key)):
            return endpoint.key
        if not head.key:
            raise Refused(MISSING_KEY)
        if not self.keys.endpoints_for(head.key):
            raise Refused(WRONG_KEY)
        raise Refused(errors.no_endpoint(name))

    def peek(self, body: bytes | bytearray) -> bool:
        """Look for the model in the beginning of the body of a request with an unknown API key.

        Returns whether the body names a model.

        The operator may not have read that key yet. So the gateway asks the operator to read the Secrets of the model's
        endpoints.
        """
        model = peek_model(body)
        if model:
            self.key_refreshes.note(self.directory.serving(model))
        return bool(model)

    async def serve(self, client: ClientConnection, admission: Admission) -> None:
        """Answer a complete request. Raises Refused."""
        key, path = admission.key, admission.path
        if self._answer(client, admission):
            return
        if path.kind is RouteKind.BATCHES:
            await self._answer_batches(client, admission)
            return
        body = client.take_body()
        if path.kind is RouteKind.JOBS and key is not None and await self._answer_job(client, admission, key, body):
            return
        fields = None
        if key is None:
            if path.kind is RouteKind.PASSIVE and not body:
                key = self._only_endpoint(admission, "This request names no model")
            else:
                fields = await read_request_fields(client, admission, body, self.budgets.scheduler)
                key = self._by_model(fields.model, admission)
            client.charge(key[0])
        worker = read_worker(admission.head)
        self._relay.check_worker(key, worker)
        if path.kind in (RouteKind.ENGINE, RouteKind.JOBS):
            self.activator.begin(key)
        request = PodRequest(client, admission, key, body, fields, time.monotonic(), worker)
        del body  # so that only the request refers to it, until a pod has it
        await self._relay.relay(request)

    def _answer(self, client: ClientConnection, admission: Admission) -> bool:
        """Answer the request if the gateway can answer it itself. Returns whether the gateway has answered."""
        key, path, head = admission.key, admission.path, admission.head
        ready = key is not None and bool(self.balancer.usable(self.directory.ready(key)))
        if path.kind is RouteKind.PROBE:
            endpoint = self.directory.endpoint(key) if key else None
            status = local_answers.health(endpoint, ready=ready or key is None, ping=path.canonical == "/ping")
            client.answer(status, None)
        elif head.is_preflight:  # the same answer for existing and missing endpoints
            requested_headers = head.get(b"access-control-request-headers")
            client.answer(200, None, (*local_answers.PREFLIGHT, ("access-control-allow-headers", requested_headers)))
        elif path.kind is RouteKind.MODELS and not ready:
            keys = [key] if key else sorted(admission.authorized)
            endpoints = [endpoint for each in keys if (endpoint := self.directory.endpoint(each))]
            name = unquote(path.canonical.removeprefix("/v1/models").removeprefix("/"))
            if not name:
                client.answer(200, local_answers.list_models(endpoints, self.directory))
            elif model := local_answers.find_model(name, endpoints, self.directory):
                client.answer(200, model)
            else:
                raise Refused(errors.no_model(name))
        else:
            return False
        return True

    async def _answer_job(
        self, client: ClientConnection, admission: Admission, key: EndpointKey, body: bytes | bytearray
    ) -> bool:
        """Answer a request of the job API. Returns False for /runsync while jobs are off: a pod answers it then."""
        head = admission.head
        operation, _, job_id = admission.path.canonical.removeprefix("/").partition("/")
        jobs = self.find_jobs()
        if jobs is None:
            if operation == "runsync" and head.method == "POST":
                return False
            raise Refused(errors.NO_JOBS)
        query = head.target.partition(b"?")[2].decode("latin-1")
        call = JobApiCall(key, head.method, operation, job_id, query, self._key_for(key, head), body)
        client.answer(200, await jobs.api.answer(call))
        return True

    def _key_for(self, key: EndpointKey, head: Head) -> str:
        """The API key to store for an endpoint's pods; "" if they need none."""
        return "" if key in self.directory.open() else head.key

    async def _answer_batches(self, client: ClientConnection, admission: Admission) -> None:
        """Answer a request about files or batches. If the URL names no endpoint, the key must open only one
        endpoint."""
        head, key, jobs = admission.head, admission.key, self.find_jobs()
        if jobs is None:
            raise Refused(errors.NO_FILES)
        key = key or self._only_endpoint(admission, "Files and batches belong to an endpoint")
        parts = tuple(unquote(admission.path.canonical).removeprefix("/v1/").rstrip("/").split("/"))
        method = "GET" if head.method == "HEAD" else head.method
        query = head.target.partition(b"?")[2].decode("latin-1")
        call = batches.BatchApiCall(
            key, method, parts, query, head.get(b"content-type"), self._key_for(key, head), client.body_to_read()
        )
        answer = await jobs.batches.answer(call)
        if answer.pieces is None:
            client.answer(200, answer.content, (("content-type", answer.content_type),))
        else:
            await client.answer_in_pieces(answer.content_type, answer.size, answer.pieces)

    def _only_endpoint(self, admission: Admission, why: str) -> EndpointKey:
        """The one endpoint that a request without a model may mean. Raises Refused with `why` if there are several."""
        if len(admission.authorized) > 1:
            raise Refused(errors.ambiguous_endpoint(why, [self.directory.id_of(each) for each in admission.authorized]))
        (key,) = admission.authorized
        return key

    def _by_model(self, model: str, admission: Admission) -> EndpointKey:
        endpoints = [self.directory.endpoint(key) for key in admission.authorized]
        serving = [each.key for each in endpoints if each and model in each.models]
        if len(serving) > 1:
            raise Refused(errors.ambiguous_model(model, [self.directory.id_of(key) for key in serving]))
        if serving:
            return serving[0]
        raise Refused(errors.no_model(model) if admission.head.key else MISSING_KEY)
