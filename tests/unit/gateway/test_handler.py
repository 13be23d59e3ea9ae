"""Requests: answers to the head alone, the wait for a pod, and comments to the client during the wait."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forebay_gateway.activator import pending_requests
from forebay_gateway.endpoints.endpoint import read_endpoint
from forebay_gateway.fairness.budgets import Budgets
from forebay_gateway.http.errors import Refused
from forebay_gateway.http.messages import Head
from forebay_gateway.http.routes import read_path
from forebay_gateway.proxy.admission import Admission
from forebay_gateway.proxy.client_connection import ClientConnection
from forebay_gateway.proxy.handler import RequestHandler
from forebay_gateway.proxy.pod_relay import PodRelay, PodRequest
from forebay_gateway.settings import Limits
from tests.unit.gateway.pending import KEY, PendingCluster
from tests.unit.gateway.pending import made as known_keys

HOLD_SECONDS = 0.5

LIMITS = {"hold_seconds": HOLD_SECONDS, "patience_seconds": 0.2, "heartbeat_seconds": 0.1}


class Client:
    """A connection that records the comments that it gets."""

    def __init__(self) -> None:
        self.comments: list[str] = []

    def comment(self, text: str) -> None:
        self.comments.append(text)


async def hold(
    body: bytes, monkeypatch: pytest.MonkeyPatch, *headers: tuple[bytes, bytes], early: float = 0.0
) -> tuple[Client, Refused]:
    """Keep a request pending until its deadline, on a fake clock whose timers end `early` seconds too early."""
    now = began = 1000.0

    async def wait(tasks: Collection[Any], **options: float) -> Any:
        nonlocal now
        now += max(0.001, options["timeout"] - early)
        await asyncio.sleep(0)
        return set(), tasks

    monkeypatch.setattr(pending_requests, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(asyncio, "wait", wait)
    cluster = PendingCluster(**LIMITS)
    relay = PodRelay(cluster.directory, cluster.activator, cluster.balancer, Budgets(Limits()))
    head = Head("POST", b"/v1/chat/completions", "1.1", list(headers))
    path = read_path(head.method, head.target, shared=False)
    assert path
    client = Client()
    admission = Admission(head, path, KEY, "id")
    request = PodRequest(cast(ClientConnection, client), admission, KEY, body, None, began)
    with pytest.raises(Refused) as raised:
        await relay._wait_for_pods(request)
    assert began + HOLD_SECONDS <= now < began + HOLD_SECONDS + 0.002
    return client, raised.value


@pytest.mark.parametrize("early", [0.0, 0.05])
async def test_a_plain_request_gets_a_status_and_no_comment(early: float, monkeypatch: pytest.MonkeyPatch) -> None:
    client, refused = await hold(b'{"model": "m"}', monkeypatch, early=early)
    assert (client.comments, refused.error.status) == ([], 503)


@pytest.mark.parametrize("early", [0.0, 0.05])
async def test_a_stream_gets_comments_after_its_first_wait(early: float, monkeypatch: pytest.MonkeyPatch) -> None:
    client, refused = await hold(b'{"model": "m", "stream": true}', monkeypatch, early=early)
    assert refused.error.status == 503
    assert len(client.comments) == 3


async def test_a_client_can_switch_off_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"model": "m", "stream": true}'
    client, refused = await hold(body, monkeypatch, (b"X-Forebay-Comments", b"None"))
    assert (client.comments, refused.error.status) == ([], 503)


OPEN, CLOSED = ("team", "open"), ("team", "one")
POST, V1 = "POST", "/v1/chat/completions"
OK: Any = None

# on whose port, method and path, key, and the endpoint that is meant with the error's status
ADMISSIONS = [
    (CLOSED, POST, V1, "a", CLOSED, OK),
    (CLOSED, POST, V1, "", None, 401),
    (CLOSED, POST, V1, "c", None, 401),
    (CLOSED, POST, "/nowhere", "a", None, 404),
    (CLOSED, POST, "/nowhere", "", None, 401),
    (OPEN, POST, V1, "", OPEN, OK),
    (OPEN, POST, V1, "c", OPEN, OK),
    (None, POST, f"/v2/one/openai{V1}", "a", CLOSED, OK),
    (None, POST, f"/v2/one/openai{V1}", "", None, 401),
    (None, POST, f"/v2/none/openai{V1}", "a", None, 404),
    (None, POST, f"/v2/none/openai{V1}", "c", None, 401),
    (None, POST, f"/openai{V1}", "a", None, OK),
    (None, POST, f"/openai{V1}", "c", None, 401),
    (None, "GET", "/health", "", None, OK),
]


def handler_of_two() -> RequestHandler:
    """A gateway with an endpoint that requires a key, and one that does not."""
    cluster = PendingCluster()
    metadata = {"name": "open", "namespace": "team", "generation": 1}
    spec = {"replicas": 0, "scaling": {"maxReplicas": 1}, "auth": {"mode": "None"}}
    cluster.directory.put_endpoint(read_endpoint({"metadata": metadata, "spec": spec, "status": {}}))
    return RequestHandler(cluster.directory, known_keys(), cluster.activator, cluster.balancer, Budgets(Limits()))


def read_head(method: str, path: str, key: str) -> Head:
    return Head(method, path.encode(), "1.1", [(b"authorization", f"Bearer {key}".encode())] if key else [])


@pytest.mark.parametrize("row", ADMISSIONS, ids=str)
async def test_the_key_is_checked_before_anything_is_revealed(row: tuple[Any, str, str, str, Any, Any]) -> None:
    port, method, path, key, meant, status = row
    handler, head = handler_of_two(), read_head(method, path, key)
    if status is OK:
        assert handler.admit(port, head).key == meant
    else:
        with pytest.raises(Refused) as raised:
            handler.admit(port, head)
        assert raised.value.error.status == status


@pytest.mark.parametrize("port", [None, CLOSED, OPEN])
@pytest.mark.parametrize("path", [V1, "/nowhere", "/v2/none/run", "/v2/one/run/x", "*"])
async def test_preflight_requests_of_browsers_are_answered(port: Any, path: str) -> None:
    """Else its page could not read the refusal of the request itself."""
    head = Head("OPTIONS", path.encode(), "1.1", [(b"access-control-request-method", b"POST")])
    answers: list[int] = []
    client = SimpleNamespace(answer=lambda status, *_: answers.append(status))
    handler = handler_of_two()
    await handler.serve(cast(ClientConnection, client), handler.admit(port, head))
    assert answers == [200]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/openai/v1/tokenizer_info", "/tokenizer_info", "/v1/responses/resp_1"])
async def test_a_request_without_a_model_reaches_the_only_endpoint(method: str, path: str) -> None:
    charged: list[str] = []
    client = cast(ClientConnection, SimpleNamespace(take_body=bytearray, charge=charged.append, tenant="team"))
    handler, head = handler_of_two(), read_head(method, path, "a")
    admission = handler.admit(None, head)
    with pytest.raises(Refused) as raised:
        await handler.serve(client, admission)
    assert (raised.value.error.code, charged) == ("endpoint_not_ready", ["team"])
    with pytest.raises(Refused) as raised:
        await handler.serve(client, replace(admission, authorized=frozenset({OPEN, CLOSED})))
    assert (raised.value.error.status, raised.value.error.code) == (409, "ambiguous_endpoint")


async def test_a_gateway_that_drains_admits_nothing() -> None:
    handler = handler_of_two()
    handler.drain()
    with pytest.raises(Refused) as raised:
        handler.admit(OPEN, read_head(POST, V1, ""))
    assert raised.value.error.status == 503
