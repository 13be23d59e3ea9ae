"""The API server: one request, and one watch."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from kubernetes.aio import client, config

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 30
WATCH_SECONDS = 300
"""After which the API server ends a watch, which then goes on from where it was."""


class ApiServerError(Exception):
    """The API server said no (`status` is HTTP's), or did not answer (0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


Connect = Callable[[], Awaitable[client.ApiClient]]


class ApiServer:
    """A connection to the API server. Where that has a certificate by another CA than before, the connection is opened
    again, for which the file of CAs is read."""

    def __init__(self, api: client.ApiClient, connect: Connect | None = None) -> None:
        self._api = api
        self._connect = connect or _connect

    @classmethod
    async def connect(cls) -> "ApiServer":
        """Connect as the pod's service account, or by KUBECONFIG outside a cluster."""
        return cls(await _connect())

    async def close(self) -> None:
        """Abort all connections, including those of running requests and watches.

        Call it before cancelling these: cancelling starts a TLS shutdown, which would still be open when the loop ends.
        """
        await self._api.close()

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """Ask, and return the JSON of the answer. Raises ApiServerError."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        response = await self._send(REQUEST_SECONDS, method, path, query or {}, headers=headers, body=body)
        try:
            return json.loads(await response.read())
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiServerError(0, f"the answer of the API server broke off: {error!r}") from error

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        """The events of a watch until the API server ends it. Raises ApiServerError."""
        asked = {**query, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        headers = {"Accept": "application/json"}
        response = await self._send(WATCH_SECONDS + REQUEST_SECONDS, "GET", path, asked, headers=headers)
        rest = b""
        try:
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiServerError(event["object"].get("code", 0), event["object"].get("message", ""))
                    yield event
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiServerError(0, f"the watch broke off: {error!r}") from error
        finally:
            response.close()

    async def _send(
        self, seconds: float, method: str, path: str, query: Mapping[str, str], **parts: Any
    ) -> aiohttp.ClientResponse:
        headers, body, api = parts["headers"], parts.get("body"), self._api
        request = await api.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        try:
            answer = await api.call_api(*request, _request_timeout=seconds)
            response: aiohttp.ClientResponse = answer.response
            if response.status >= 400:
                raise ApiServerError(response.status, (await response.read()).decode(errors="replace")[:500])
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                await self._connect_again(api)
            raise ApiServerError(0, f"the API server did not answer: {error!r}") from error
        return response

    async def _connect_again(self, failed: client.ApiClient) -> None:
        try:
            opened = await self._connect()
        except (OSError, config.ConfigException) as error:
            logger.warning("the credentials cannot be read again: %s", error)
            return
        if self._api is failed:
            self._api, opened = opened, failed
        await opened.close()


async def _connect() -> client.ApiClient:
    configuration = client.Configuration(connection_pool_maxsize=0)  # each watch holds one; 0 is no bound
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)
    return client.ApiClient(configuration)
