"""The HTTP client for the API server: credentials, time-outs, retries after 429, errors, and watches.

The operator and the gateway use it.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp
from kubernetes.aio import client, config

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = 30
"""Seconds for an answer of the API server."""

WATCH_TIMEOUT = 300
"""Seconds after which the API server ends a watch. The next watch continues from the last version."""

MAX_RETRIES, MAX_RETRY_DELAY = 3, 10.0
"""Retries of one request after 429, and the maximum seconds before each retry, whatever Retry-After says."""


class ApiServerError(Exception):
    """The API server refused a request, or did not answer.

    Attributes:
        status: the HTTP status, 0 when there was no answer.
        reason: the reason in Kubernetes' own CamelCase, such as AlreadyExists; may be empty.
        message: the API server's own message.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


Connect = Callable[[], Awaitable[client.ApiClient]]
Observe = Callable[[str, str, int], None]
"""Is called with the method, the resource and the HTTP status of each request except watches. Status 0: no answer."""


class ApiClient:
    """A connection to the API server.

    If the server's certificate comes from a new CA, the connection is opened again with the current file of CAs.
    """

    def __init__(
        self, api: client.ApiClient, connect: Connect | None = None, observe: Observe = lambda *_: None
    ) -> None:
        self._api = api
        self._connect = connect or _connect
        self._observe = observe

    @classmethod
    async def connect(cls, observe: Observe = lambda *_: None) -> "ApiClient":
        """Connect as the pod's service account, or by KUBECONFIG outside a cluster."""
        return cls(await _connect(), observe=observe)

    async def close(self) -> None:
        """Abort all connections, including those of running requests and watches.

        Call this method before you cancel requests and watches: a cancellation starts a TLS shutdown, which may not be
        over when the loop ends.
        """
        await self._api.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """Send a request, and return the JSON of the answer. After 429 the request is retried at the time in
        Retry-After.

        Raises:
            ApiServerError: the API server refused, or did not answer.
        """
        content = body if "json" in content_type else dump_yaml(body)
        headers, retries = {"Accept": accept, "Content-Type": content_type}, MAX_RETRIES
        while True:
            code, data, delay = await self._exchange(method, path, content, query=query or {}, headers=headers)
            if code != 429 or not retries:
                break
            retries -= 1
            await asyncio.sleep(delay)
        if code >= 400:
            raise _read_error(code, data)
        try:
            return json.loads(data)
        except ValueError as error:  # such as the page of a proxy in front of the API server
            raise ApiServerError(0, "Unreadable", f"the API server's answer is not JSON: {error}") from error

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        """The events of a watch until the API server ends it. Raises ApiServerError."""
        full_query = {**query, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_TIMEOUT)}
        headers = {"Accept": "application/json"}
        seconds = WATCH_TIMEOUT + REQUEST_TIMEOUT
        response = (await self._send("GET", path, None, query=full_query, headers=headers, seconds=seconds)).response
        rest = b""
        try:
            if response.status >= 400:
                raise _read_error(response.status, await response.read())
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiServerError(status.get("code", 0), status.get("reason", ""), status.get("message", ""))
                    yield event
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiServerError(0, "Unreachable", f"the watch was interrupted: {error!r}") from error
        finally:
            response.close()

    async def _exchange(
        self, method: str, path: str, body: Any, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, bytes, float]:
        """Status and content of the answer, and the seconds after which a refused request may be retried."""
        code = 0
        try:
            response = await self._send(method, path, body, query=query, headers=headers, seconds=REQUEST_TIMEOUT)
            data = await response.read()
            code = response.status
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(error) from error
        finally:
            self._observe(method, resource_of(path), code)
        return code, data, _read_retry_delay(response.getheader("Retry-After"))

    async def _send(
        self, method: str, path: str, body: Any, *, query: Mapping[str, str], headers: Mapping[str, str], seconds: int
    ) -> Any:
        api = self._api
        _, url, own_headers, *_ = await api.param_serialize(
            method, path, query_params=list(query.items()), header_params=dict(headers), auth_settings=["BearerToken"]
        )  # the body needs none of this: it is JSON already
        try:
            return await api.call_api(method, url, own_headers, body, _request_timeout=seconds)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                await self._connect_again(api)
            raise _unreachable(error) from error

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
    # trust_env: with it aiohttp reads proxies and .netrc in a thread before each request
    configuration = client.Configuration(
        connection_pool_maxsize=0,  # no limit, because each watch holds a connection
        client_session_kwargs={"trust_env": False},
    )
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)
    return client.ApiClient(configuration)


def _unreachable(error: Exception) -> ApiServerError:
    return ApiServerError(0, "Unreachable", f"the API server did not answer: {str(error) or repr(error)}")


def dump_yaml(content: Any) -> bytes:
    """Serialize as JSON that is also valid YAML.

    YAML has no surrogate pairs, so characters outside the Basic Multilingual Plane stay literal. Other non-ASCII
    characters are escaped, because YAML rejects some of them or reads them as a line break.
    """
    text = json.dumps(content, ensure_ascii=False)
    return re.sub("[\x7f-\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def resource_of(path: str) -> str:
    """The resource of a path, such as deployments or inferenceendpoints/status. Without a namespace: its last part."""
    parts = path.strip("/").split("/")
    if "namespaces" not in parts:
        return parts[-1]
    collection = parts[parts.index("namespaces") + 2 :]
    return "/".join(collection[::2]) if len(collection) > 2 else collection[0]


def _read_retry_delay(retry_after: str | None) -> float:
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 1.0
    return min(max(seconds, 0.1), MAX_RETRY_DELAY)


def _read_message(answer: Mapping[str, Any]) -> str:
    """The API server's message, with sorted causes.

    The API server lists several causes in a random order. In that order, a status that quotes the message would change
    at each pass.
    """
    message = str(answer.get("message", ""))
    causes = (answer.get("details") or {}).get("causes") or []
    listed = sorted(f"{cause.get('field')}: {cause.get('message')}" for cause in causes)
    begin, bracket, rest = message.partition(": [")
    return f"{begin}: [{', '.join(listed)}]" if bracket and rest.endswith("]") and len(listed) > 1 else message


def _read_error(status: int, data: bytes) -> ApiServerError:
    try:
        answer = json.loads(data)
        return ApiServerError(status, str(answer.get("reason", "")), _read_message(answer))
    except (ValueError, AttributeError):  # not a JSON object, such as a proxy's page
        return ApiServerError(status, "", data.decode(errors="replace")[:500] or f"HTTP status {status}")
