"""One request to the API server: credentials, time-outs, errors, and the count of what was asked."""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp
from kubernetes.aio import client, config

from forebay_operator.metrics import API_REQUESTS
from forebay_operator.spec import Manifest

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = 30
"""Seconds that the API server has for an answer."""


MAX_PAUSES, MAX_PAUSE = 3, 10.0
"""How often one request is tried again after 429, and the most seconds before each, whatever Retry-After says."""


class ApiError(Exception):
    """The API server said no, or did not answer.

    Attributes:
        status: the HTTP status, 0 when there was no answer.
        reason: the reason in Kubernetes' own CamelCase, such as AlreadyExists; may be empty.
        message: the API server's own sentence.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


Connect = Callable[[], Awaitable[client.ApiClient]]


class Api:
    """A connection to the API server. Where that has a certificate by another CA than before, the connection is opened
    again, for which the file of CAs is read."""

    def __init__(self, api: client.ApiClient, connect: Connect | None = None) -> None:
        self._api = api
        self._connect = connect or _connect

    @classmethod
    async def connect(cls) -> "Api":
        """Connect as the pod's service account, or by KUBECONFIG outside a cluster."""
        return cls(await _connect())

    async def close(self) -> None:
        """Close the connection."""
        await self._api.close()

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
        """Ask, and return the JSON of the answer. When the API server has too much to do, ask again when it says.

        Raises:
            ApiError: the API server refused, or did not answer.
        """
        content = body if "json" in content_type else dump_yaml(body)
        headers, patience = {"Accept": accept, "Content-Type": content_type}, MAX_PAUSES
        while True:
            code, data, pause = await self._ask(method, path, content, query=query or {}, headers=headers)
            if code != 429 or not patience:
                break
            patience -= 1
            await asyncio.sleep(pause)
        if code >= 400:
            raise _read_error(code, data)
        try:
            return json.loads(data)
        except ValueError as error:  # of a proxy before the API server
            raise ApiError(0, "Unreadable", f"the API server's answer is no JSON: {error}") from error

    async def _ask(
        self, method: str, path: str, body: Any, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, bytes, float]:
        """Status and content of the answer, and the seconds after which a refused request may be tried again."""
        api = self._api
        _, url, own_headers, *_ = await api.param_serialize(
            method, path, query_params=list(query.items()), header_params=dict(headers), auth_settings=["BearerToken"]
        )  # the body needs none of this: it is JSON already
        code = 0
        try:
            response = await api.call_api(method, url, own_headers, body, _request_timeout=REQUEST_TIMEOUT)
            data = await response.read()
            code = response.status
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                await self._connect_again(api)
            raise ApiError(0, "Unreachable", f"the API server did not answer: {error}") from error
        finally:
            API_REQUESTS.labels(method, resource_of(path), code).inc()
        return code, data, _read_pause(response.getheader("Retry-After"))

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
    # aiohttp asks a thread for proxies and .netrc before each request that trusts the environment; kopf's do not
    configuration = client.Configuration(client_session_kwargs={"trust_env": False})
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)
    return client.ApiClient(configuration)


def dump_yaml(content: Any) -> bytes:
    """JSON that is YAML as well. That knows no surrogate pairs, so what needs one stands as it is; all else that is not
    ASCII is escaped, as some of it YAML does not take or takes for the end of a line."""
    text = json.dumps(content, ensure_ascii=False)
    return re.sub("[\x7f-\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def resource_of(path: str) -> str:
    """The resource that a path is of, such as deployments or inferenceendpoints/status; the path itself for others."""
    parts = path.strip("/").split("/")
    if "namespaces" not in parts:
        return parts[-1]
    collection = parts[parts.index("namespaces") + 2 :]
    return "/".join(collection[::2]) if len(collection) > 2 else collection[0]


def _read_pause(retry_after: str | None) -> float:
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 1.0
    return min(max(seconds, 0.1), MAX_PAUSE)


def _read_message(answer: Manifest) -> str:
    """The API server's sentence. Several causes it tells in another order each time, so a status with them would be
    written for ever: here they are sorted."""
    message = str(answer.get("message", ""))
    causes = (answer.get("details") or {}).get("causes") or []
    told = sorted(f"{cause.get('field')}: {cause.get('message')}" for cause in causes)
    begin, bracket, rest = message.partition(": [")
    return f"{begin}: [{', '.join(told)}]" if bracket and rest.endswith("]") and len(told) > 1 else message


def _read_error(status: int, data: bytes) -> ApiError:
    try:
        answer = json.loads(data)
        return ApiError(status, str(answer.get("reason", "")), _read_message(answer))
    except (ValueError, AttributeError):  # no JSON, or no object: a proxy's page
        return ApiError(status, "", data.decode(errors="replace")[:500] or f"HTTP status {status}")
