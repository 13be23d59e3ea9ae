"""Reads objects from an API server without a program, because waiting tests poll several times a second."""

import atexit
import base64
import http.client
import json
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

CORE = ("events", "namespaces", "persistentvolumeclaims", "pods", "secrets", "serviceaccounts", "services")
GROUPS = {
    **dict.fromkeys(CORE, "api/v1"),
    "customresourcedefinitions": "apis/apiextensions.k8s.io/v1",
    "deployments": "apis/apps/v1",
    "endpointslices": "apis/discovery.k8s.io/v1",
    "horizontalpodautoscalers": "apis/autoscaling/v2",
    "httproutes": "apis/gateway.networking.k8s.io/v1",
    "inferenceendpoints": "apis/forebay.dev/v1alpha1",
    "leases": "apis/coordination.k8s.io/v1",
    "poddisruptionbudgets": "apis/policy/v1",
}
"""The API of each resource that is read here."""

SHORT = {
    "crd": "customresourcedefinitions",
    "hpa": "horizontalpodautoscalers",
    "iep": "inferenceendpoints",
    "pvc": "persistentvolumeclaims",
}
CLUSTER_WIDE = {"customresourcedefinitions", "namespaces"}
API_SERVER_TIMEOUT = 30.0


class NotAnswered(Exception):
    """The API server refused or did not answer; `str()` is its message."""


def find_resource(kind: str) -> str | None:
    """The plural of a kind as kubectl accepts it, such as "iep" or "service"; None for a kind that is not read here."""
    names = (SHORT.get(kind), kind, f"{kind}s")
    return next((name for name in names if name in GROUPS), None)


def read(kubeconfig: Path, resource: str, namespace: str, name: str = "", selector: str = "") -> dict[str, Any] | None:
    """An object, or the list of a namespace where no name is given; None for an object that is not there.

    Raises:
        NotAnswered: the API server refused, or knows no such resource.
    """
    where = "" if resource in CLUSTER_WIDE else f"/namespaces/{namespace}"
    query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
    path = f"/{GROUPS[resource]}{where}/{resource}" + (f"/{name}" if name else "") + query
    with connection(kubeconfig) as api:
        status, body = api.get(path)
    if status == 404 and name and b'"reason":"NotFound"' in body and b'"details":{"name":' in body:
        return None
    if status != 200:
        raise NotAnswered(f"{status} {body[:500].decode(errors='replace')}")
    return dict(json.loads(body))


class Connection:
    """A kept connection to an API server."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if "client-certificate-data" in user:
            load_certificate(context, user)
        host = urlsplit(server["server"]).netloc
        self._http = http.client.HTTPSConnection(host, timeout=API_SERVER_TIMEOUT, context=context)

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body. Raises NotAnswered if no connection is possible."""
        fresh = self._http.sock is None
        try:
            self._http.request("GET", path, headers=self._headers)
            answer = self._http.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            if fresh:
                raise NotAnswered(str(error)) from error
        return self.get(path)  # a kept connection may have ended in between

    def close(self) -> None:
        """End it."""
        self._http.close()


def load_certificate(context: ssl.SSLContext, user: dict[str, str]) -> None:
    """Give a context the certificate of a kubeconfig's user; Python takes one from files alone."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for field in ("client-certificate-data", "client-key-data"):
            files.append(os.path.join(folder, field))
            Path(files[-1]).write_bytes(base64.b64decode(user[field]))
        context.load_cert_chain(*files)


_idle: dict[tuple[Path, int], list[Connection]] = {}
_pool = threading.Lock()


@contextmanager
def connection(kubeconfig: Path) -> Iterator[Connection]:
    """A connection to the API server of a kubeconfig, as its file is now. No other caller uses the connection."""
    key = (kubeconfig, kubeconfig.stat().st_mtime_ns)
    with _pool:
        idle = _idle.setdefault(key, [])
        found = idle.pop() if idle else None
    found = found or Connection(kubeconfig)
    try:
        yield found
    finally:
        with _pool:
            idle.append(found)


@atexit.register
def close_connections() -> None:
    """Close what is left open, since Python warns of sockets that were not closed."""
    for idle in _idle.values():
        for each in idle:
            each.close()
