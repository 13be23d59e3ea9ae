"""How long a request waits for a pod, and what its client is told meanwhile."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, cast

import pytest

from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.fairness.budgets import Budgets
from forebay_gateway.http.errors import Refused
from forebay_gateway.http.messages import Head
from forebay_gateway.http.routes import read_path
from forebay_gateway.proxy.admission import Admission
from forebay_gateway.proxy.client_connection import ClientConnection
from forebay_gateway.proxy.handler import RequestHandler, _Request
from forebay_gateway.settings import Limits
from tests.unit.gateway.test_pending_requests import KEY, Cluster

HOLD_SECONDS = 0.5


class Client:
    """A connection that notes what it is told."""

    def __init__(self) -> None:
        self.comments: list[str] = []

    def comment(self, text: str) -> None:
        self.comments.append(text)


async def hold(body: bytes, monkeypatch: pytest.MonkeyPatch, *, early: float = 0.0) -> tuple[Client, Refused]:
    """Hold a request until its deadline, on a loop whose timers end so many seconds early."""
    real = asyncio.wait

    async def wait(tasks: Iterable[Any], **options: Any) -> Any:
        return await real(tasks, **{**options, "timeout": max(0.001, options["timeout"] - early)})

    monkeypatch.setattr(asyncio, "wait", wait)
    cluster = Cluster(hold_seconds=HOLD_SECONDS, patience_seconds=0.2, heartbeat_seconds=0.1)
    handler = RequestHandler(cluster.directory, KeyAuthorizer(), cluster.activator, cluster.balancer, Budgets(Limits()))
    head = Head("POST", b"/v1/chat/completions", "1.1", [])
    path = read_path(head.method, head.target, shared=False)
    assert path
    client = Client()
    admission = Admission(head, path, KEY, "id")
    request = _Request(cast(ClientConnection, client), admission, KEY, body, None, time.monotonic())
    with pytest.raises(Refused) as raised:
        await handler._hold(request)
    assert time.monotonic() >= request.began + HOLD_SECONDS
    return client, raised.value


@pytest.mark.parametrize("early", [0.0, 0.05])
async def test_a_plain_request_gets_a_status_and_no_comment(early: float, monkeypatch: pytest.MonkeyPatch) -> None:
    client, refused = await hold(b'{"model": "m"}', monkeypatch, early=early)
    assert (client.comments, refused.error.status) == ([], 503)


@pytest.mark.parametrize("early", [0.0, 0.05])
async def test_a_stream_is_told_of_the_wait_once_its_patience_is_over(
    early: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, refused = await hold(b'{"model": "m", "stream": true}', monkeypatch, early=early)
    assert refused.error.status == 503
    assert 1 <= len(client.comments) <= 3
