"""A connection to the real API server that fails, or on which the operator is killed, at its n-th request."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes.aio import client

from forebay_kube.api_client import ApiClient, ApiServerError
from forebay_operator.spec import Manifest


class Killed(BaseException):
    """The operator's process ended here: nothing after it happens, and nothing that was in its memory is left."""


@dataclass(frozen=True)
class Fault:
    """The fault at one request.

    Attributes:
        kills: whether the operator ends at it; otherwise it gets no response.
        after: whether the request takes effect all the same.
        stale: reconciles after it that still use the old cache, as a watch may be slow.
    """

    kills: bool = False
    after: bool = False
    stale: int = 0

    def __str__(self) -> str:
        words = ["killed" if self.kills else "failed", "after" if self.after else "before"]
        return "-".join([*words, "stale"] if self.stale else words)


class FaultyApi(ApiClient):
    """Counts requests from `arm` on and applies the fault at the n-th.

    Attributes:
        hit: whether an n-th request existed.
        writes: how many writes the API server has accepted since `arm`.
        made: the paths of all objects that were ever created, even if the operator got no response.
        statuses: each status that was ever written.
        meanwhile: an action just before the n-th, such as a user's deletion; the request itself then continues.
    """

    def __init__(self, api: client.ApiClient) -> None:
        super().__init__(api)
        self.hit = False
        self.writes = 0
        self.made: list[str] = []
        self.statuses: list[Manifest] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self._fault, self._left = Fault(), 0

    def arm(self, fault: Fault, at: int) -> None:
        """Do it at the `at`-th request from now on; 0 is never."""
        self._fault, self._left, self.hit, self.writes = fault, at, False, 0

    async def request(
        self,
        method: str,
        path: str,
        body: Manifest | Sequence[Manifest] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """See ApiClient."""
        self._left -= 1
        now, fault = self._left == 0, self._fault
        if now:
            self.hit = True
        if now and self.meanwhile:
            await self.meanwhile()
            now = False
        if now and not fault.after:
            raise self._error()
        try:
            answer = await super().request(method, path, body, query=query, content_type=content_type, accept=accept)
            self.writes += method != "GET"
            if method == "POST":
                self.made.append(f"{path}/{answer['metadata']['name']}")
            elif path.endswith("/status"):
                self.statuses.append(json.loads(json.dumps(body))["status"])
        finally:
            if now:
                raise self._error()
        return answer

    def _error(self) -> BaseException:
        return Killed() if self._fault.kills else ApiServerError(0, "Unreachable", "the test lets this request fail")
