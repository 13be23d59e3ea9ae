"""Requests that wait, and keys that are known."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Address, Endpoint, read_endpoint
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.settings import Limits
from forebay_kube.endpoint_key import EndpointKey

KEY = ("team", "one")


def endpoint(replicas: int = 0, **status: Any) -> Endpoint:
    metadata = {"name": "one", "namespace": "team", "generation": 1}
    spec = {"replicas": replicas, "scaling": {"maxReplicas": 1}}
    return read_endpoint({"metadata": metadata, "spec": spec, "status": {"observedGeneration": 1, **status}})


class PendingCluster:
    """A fake cluster for pending requests."""

    def __init__(self, **limits: Any) -> None:
        self.directory = Directory("team")
        self.directory.put_endpoint(endpoint())
        self.balancer = Balancer()
        self.woken: list[EndpointKey] = []
        self.says_ready: list[Address] = []
        self.asked = 0
        self.on_wake: Callable[[], Awaitable[None]] | None = None
        self.activator = Activator(
            self.directory,
            self.balancer,
            wake=self._wake,
            find_ready=self._ask,
            backlog=dict,
            limits=replace(Limits(), **limits),
        )

    async def _wake(self, key: EndpointKey) -> None:
        self.woken.append(key)
        if self.on_wake:
            await self.on_wake()

    async def _ask(self, pods: Sequence[Address]) -> list[Address]:
        self.asked += 1
        return [pod for pod in pods if pod in self.says_ready]

    def wait(self) -> "asyncio.Task[list[Address]]":
        return asyncio.create_task(self.activator.wait_for_pods(KEY))


SECRET = b"s" * 32


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def digest(key: str) -> bytes:
    return hmac.new(SECRET, key.encode(), hashlib.sha256).hexdigest().encode()


def made(secret: bytes = SECRET) -> KeyAuthorizer:
    keys = KeyAuthorizer()
    keys.put_secret("forebay-gateway", {"digest-key": encoded(secret)})
    entries = {"team.one": encoded(digest("a") + b"\n" + digest("b")), "team.two": encoded(digest("b"))}
    keys.put_secret("forebay-gateway-keys-3", entries)
    return keys
