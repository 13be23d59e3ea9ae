"""The password of the chart's own Valkey is made where it is missing, and never changed."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from forebay_kube import names
from forebay_operator.__main__ import build_parser
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.app import Operator
from forebay_operator.controller import valkey_password
from forebay_operator.controller.valkey_password import ensure_valkey_password
from tests.unit.operator.fake_api_server import NAMESPACE, FakeApiServer
from tests.waiting import until

NAME = "forebay-valkey"
PLACE = "secrets", NAME


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey_password, "PASSWORD_CHECK_INTERVAL", 0.0)


@pytest.fixture
def server() -> FakeApiServer:
    return FakeApiServer({})


class Counting(FakeApiServer):
    """Counts the requests, each of which is delayed, so that others interleave."""

    def __init__(self) -> None:
        super().__init__({})
        self.methods = list[str]()

    async def request(self, method: str, *arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        self.methods.append(method)
        return await super().request(method, *arguments, **options)


@asynccontextmanager
async def leading(server: FakeApiServer, operators: int = 1) -> AsyncIterator[None]:
    """Operators that lead, each of which thinks that it is the only one."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ensure_valkey_password(Cluster(server), NAMESPACE, NAME)) for _ in range(operators)]
        yield
        for task in tasks:
            task.cancel()


def read(server: FakeApiServer) -> dict[str, str]:
    """The entries of the Secret as they are."""
    return {name: base64.b64decode(value).decode() for name, value in server.objects[PLACE]["data"].items()}


async def test_a_missing_password_is_created(server: FakeApiServer) -> None:
    async with leading(server):
        await until(lambda: PLACE in server.objects)
        first = read(server)
        server.remove(*PLACE)
        await until(lambda: PLACE in server.objects)
        second = read(server)
    assert first["password"] != second["password"]
    for each in (first, second):
        assert len(each["password"]) == 64
        assert each == {
            "password": each["password"],
            "url": f"valkey://:{each['password']}@{NAME}.{NAMESPACE}.svc:6379/0",
            "valkey.conf": f"requirepass {each['password']}\n",
        }


async def test_an_existing_password_is_never_changed() -> None:
    server = Counting()
    made = server.put("secrets", {"metadata": {"name": NAME}, "data": {"url": "eA=="}})
    async with leading(server):
        await until(lambda: len(server.methods) > 10)
    assert server.objects[PLACE] == made
    assert server.writes == 0


async def test_only_one_of_two_operators_creates_the_password() -> None:
    server = Counting()
    async with leading(server, operators=2):
        await until(lambda: len(server.methods) > 10)
    assert server.methods[:4] == ["GET", "GET", "POST", "POST"]
    assert server.writes == 1


@pytest.mark.parametrize("takes_effect", [False, True])
@pytest.mark.parametrize("request_number", [1, 2])
async def test_a_request_without_a_response_is_retried(request_number: int, takes_effect: bool) -> None:
    server = Counting()
    server.failing, server.takes_effect = request_number, takes_effect
    async with leading(server):
        await until(lambda: len(server.methods) > 10)
    assert server.writes == 1


class LedByAnother(FakeApiServer):
    """A server on which an operator of another release holds the lease."""

    async def request(self, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        if "/leases/" in path:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            spec = {"holderIdentity": "another", "leaseDurationSeconds": 15, "renewTime": now}
            return {"metadata": {"name": "forebay-operator", "resourceVersion": now}, "spec": spec}
        if path.startswith("/apis/forebay.dev/"):
            return {"resources": [{"name": names.PLURAL}]}
        return await super().request(method, path, *arguments, **options)


async def test_a_standby_operator_creates_the_password_too(monkeypatch: pytest.MonkeyPatch) -> None:
    server = LedByAnother({})

    async def connect() -> Cluster:
        return Cluster(server)

    monkeypatch.setattr(Cluster, "connect", connect)
    arguments = f"--namespace={NAMESPACE}", f"--valkey-service={NAME}", "--health-address=127.0.0.1:0"
    operator = Operator(build_parser().parse_args(arguments))
    running = asyncio.create_task(operator.run())
    await until(lambda: PLACE in server.objects)
    assert not operator.health().leads
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
