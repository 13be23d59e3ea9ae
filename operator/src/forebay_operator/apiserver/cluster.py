"""All requests of the operator to the API server, except the watches (event_source.py).

Every module that reads or writes objects outside the cache calls it.
"""

import logging
import math
import re
import time
from collections.abc import Collection

from forebay_kube.api_client import ApiClient, ApiServerError
from forebay_kube.names import GROUP, PLURAL, SERVICE_LABEL, VERSION
from forebay_operator.labels import DELETION_COST_ANNOTATION, FIELD_MANAGER, ROUTE_API, SELECTORS
from forebay_operator.metrics import count_request
from forebay_operator.spec import Manifest

logger = logging.getLogger(__name__)

LIST_LIMIT = 500
"""Objects in one page of a list."""

DISCOVERY_AGE = 5.0
"""Seconds for which the list of served APIs is cached."""

_UNDECLARED_STATUS = re.compile(r"\.status\.(\w+): field not declared in schema")
"""The API server's message for a field of a server-side apply that the CRD does not have."""

_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml; charset=utf-8"
_COLLECTIONS = {
    "Pod": "api/v1/namespaces/{namespace}/pods",
    "Deployment": "apis/apps/v1/namespaces/{namespace}/deployments",
    "Service": "api/v1/namespaces/{namespace}/services",
    "Secret": "api/v1/namespaces/{namespace}/secrets",
    "PersistentVolumeClaim": "api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "EndpointSlice": "apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "HTTPRoute": f"apis/{ROUTE_API}/namespaces/{{namespace}}/httproutes",
    "Gateway": f"apis/{ROUTE_API}/namespaces/{{namespace}}/gateways",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    "Event": "api/v1/namespaces/{namespace}/events",
    "InferenceEndpoint": f"apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/{PLURAL}",
}


class Cluster:
    """The operator's requests to the API server. Use it as an async context manager."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._routes_served = -math.inf, False
        """The time of the last request (monotonic seconds), and the answer."""

    @classmethod
    async def connect(cls) -> "Cluster":
        """Connect as the pod's service account, or by KUBECONFIG outside a cluster."""
        return cls(await ApiClient.connect(count_request))

    async def __aenter__(self) -> "Cluster":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def get_minor_version(self) -> int:
        """The minor version of the API server: 37 for v1.37.2."""
        version = await self._api.request("GET", "/version")
        return int("".join(filter(str.isdigit, version["minor"])))

    async def serves_endpoints(self) -> bool:
        """Whether the CRD is installed."""
        return PLURAL in await self._discover(f"{GROUP}/{VERSION}")

    async def serves_routes(self) -> bool:
        """Whether the Gateway API is installed. The answer is cached for DISCOVERY_AGE."""
        read_at, served = self._routes_served
        if read_at + DISCOVERY_AGE < time.monotonic():
            served = "httproutes" in await self._discover(ROUTE_API)
            self._routes_served = time.monotonic(), served
        return served

    async def _discover(self, group_version: str) -> set[str]:
        """The plural names of an API's resources; empty if it is not installed."""
        try:
            answer = await self._api.request("GET", f"/apis/{group_version}")
        except ApiServerError as error:
            if error.status == 404:
                return set()
            raise
        return {resource["name"] for resource in answer["resources"]}

    async def list_uids(self, kind: str, namespaces: Collection[str]) -> dict[tuple[str, str], str]:
        """The uids of all endpoints, or of all children of a kind, by namespace and name.

        If `namespaces` is empty, all namespaces are read.
        """
        listed = await self._list_metadata(kind, namespaces, SELECTORS.get(kind, ""))
        return {(metadata["namespace"], metadata["name"]): metadata["uid"] for metadata in listed}

    async def _list_metadata(self, kind: str, namespaces: Collection[str], selector: str) -> list[Manifest]:
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        listed: list[Manifest] = []
        for namespace in namespaces or ("",):
            path = _path(kind, namespace) if namespace else _path(kind, "").replace("namespaces//", "")
            query = {"limit": str(LIST_LIMIT), **({"labelSelector": selector} if selector else {})}
            while True:
                page = await self._api.request("GET", path, query=query, accept=accept)
                listed += (item["metadata"] for item in page["items"] or ())
                following = page["metadata"].get("continue")
                if not following:
                    break
                query["continue"] = following
        return listed

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Read one object. Returns None if it does not exist."""
        try:
            live: Manifest = await self._api.request("GET", _path(kind, namespace, name))
            return live
        except ApiServerError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Create an object. Returns the object, or None if its name is taken. The existing object then stays
        unchanged."""
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata["namespace"])
        try:
            created: Manifest = await self._api.request("POST", path, body=manifest, query=_manager())
        except ApiServerError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return None
            raise
        logger.info("created %s %s/%s", manifest["kind"], metadata["namespace"], metadata["name"])
        return created

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply with force. The operator takes over the fields of the manifest. Other fields stay. Returns
        the result."""
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata["namespace"], metadata["name"])
        query = {**_manager(), "force": "true"}
        live: Manifest = await self._api.request("PATCH", path, body=manifest, query=query, content_type=_APPLY)
        logger.info("applied %s %s/%s", manifest["kind"], metadata["namespace"], metadata["name"])
        return live

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object that has not changed since it was read. Returns the result.

        Raises ApiServerError with status 409 if it has changed.
        """
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata["namespace"], metadata["name"])
        written: Manifest = await self._api.request("PUT", path, body=manifest, query=_manager())
        return written

    async def delete(self, manifest: Manifest) -> None:
        """Delete an object. Does nothing if it no longer exists, or if another object has its name by now."""
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata["namespace"], metadata["name"])
        try:
            await self._api.request("DELETE", path, body={"preconditions": {"uid": metadata["uid"]}})
        except ApiServerError as error:
            if error.status not in (404, 409):
                raise
            return
        logger.info("deleted %s %s/%s", manifest["kind"], metadata["namespace"], metadata["name"])

    async def own_as_applied(self, manifest: Manifest, entry: int) -> None:
        """Hand fields set by `create` over to server-side apply, so that a later apply can remove them.

        `entry` is their index in the object's managedFields. client-go's util/csaupgrade does the same.
        """
        change = {"op": "replace", "path": f"/metadata/managedFields/{entry}/operation", "value": "Apply"}
        await self._change_ownership(manifest, entry, change)

    async def disown(self, manifest: Manifest, entry: int) -> None:
        """Give up the ownership of the fields at an index of the object's managedFields. Their values stay."""
        owned, place = manifest["metadata"]["managedFields"][entry], f"/metadata/managedFields/{entry}"
        same = [{"op": "test", "path": f"{place}/subresource", "value": owned.get("subresource")}]
        await self._change_ownership(manifest, entry, *same, {"op": "remove", "path": place})

    async def _change_ownership(self, manifest: Manifest, entry: int, *changes: Manifest) -> None:
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata["namespace"], metadata["name"])
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "test", "path": f"/metadata/managedFields/{entry}/manager", "value": FIELD_MANAGER},
            *changes,
        ]
        await self._api.request("PATCH", path, body=patch, query=_manager(), content_type="application/json-patch+json")

    async def merge(self, manifest: Manifest, patch: Manifest) -> Manifest:
        """Change the object that the manifest names by a JSON merge patch, which replaces lists as a whole."""
        metadata = manifest["metadata"]
        path = _path(manifest["kind"], metadata["namespace"], metadata["name"])
        live: Manifest = await self._api.request("PATCH", path, body=patch, query=_manager(), content_type=_MERGE)
        return live

    async def apply_status(self, namespace: str, name: str, uid: str, status: Manifest) -> Manifest | None:
        """Apply the status of an endpoint. Returns the endpoint, or None if no endpoint with this uid exists any more.

        A field that the CRD of an older release does not have is omitted.
        """
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceEndpoint",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "status": status,
        }
        path = _path("InferenceEndpoint", namespace, name) + "/status"
        query = {**_manager(), "force": "true"}
        try:
            live: Manifest = await self._api.request("PATCH", path, body=body, query=query, content_type=_APPLY)
            return live
        except ApiServerError as error:
            undeclared = _UNDECLARED_STATUS.search(error.message)
            if undeclared and undeclared[1] in status:
                logger.warning("the CRD is older than this operator: it has no status.%s", undeclared[1])
                known = {field: value for field, value in status.items() if field != undeclared[1]}
                return await self.apply_status(namespace, name, uid, known)
            if error.status not in (404, 409):
                raise
            logger.info("endpoint %s/%s was deleted before its status was written", namespace, name)
            return None

    async def write_event(self, manifest: Manifest, patch: Manifest | None) -> bool:
        """Create an event's object, or patch the existing object. Returns False if there is no object to patch."""
        if patch is None:
            path = _path("Event", manifest["metadata"]["namespace"])
            await self._api.request("POST", path, body=manifest, query=_manager())
            return True
        try:
            await self.merge(manifest, patch)
        except ApiServerError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def get_scale(self, namespace: str, name: str) -> Manifest | None:
        """An endpoint's scale subresource, or None if the endpoint no longer exists."""
        return await self.get("InferenceEndpoint", namespace, f"{name}/scale")

    async def scale(self, read: Manifest, replicas: int) -> bool:
        """Set an endpoint's replicas, unless it has changed since `read`, which is the endpoint or its scale
        subresource.

        Returns False if the endpoint has changed since, or was deleted. The API server accepts this PATCH even if
        spec.replicas is absent. It then answers GET with 500.
        """
        metadata = read["metadata"]
        path = _path("InferenceEndpoint", metadata["namespace"], metadata["name"]) + "/scale"
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"replicas": replicas}}
        try:
            await self._api.request("PATCH", path, body=patch, query=_manager(), content_type=_MERGE)
        except ApiServerError as error:
            if error.status not in (404, 409):
                raise
            return False
        return True

    async def set_deletion_cost(self, namespace: str, name: str, cost: int) -> None:
        """Set the deletion cost of a pod. When replicas are removed, cheaper pods are removed first.

        A deleted pod is no error.
        """
        pod = {"kind": "Pod", "metadata": {"namespace": namespace, "name": name}}
        try:
            await self.merge(pod, {"metadata": {"annotations": {DELETION_COST_ANNOTATION: str(cost)}}})
        except ApiServerError as error:
            if error.status != 404:
                raise

    async def list_slices(self, namespace: str, service: str) -> list[Manifest]:
        """The EndpointSlices of a Service."""
        # resource version 0: the API server answers from its cache, without etcd
        query = {"labelSelector": f"{SERVICE_LABEL}={service}", "resourceVersion": "0"}
        answer = await self._api.request("GET", _path("EndpointSlice", namespace), query=query)
        slices: list[Manifest] = answer["items"]
        return slices

    async def list_events(self, namespace: str, uid: str) -> list[Manifest]:
        """The events of one object."""
        query = {"fieldSelector": f"involvedObject.uid={uid}", "limit": str(LIST_LIMIT)}
        answer = await self._api.request("GET", _path("Event", namespace), query=query)
        events: list[Manifest] = answer["items"]
        return events

    async def list_nodes(self) -> list[Manifest]:
        """All nodes of the cluster, read in pages."""
        nodes: list[Manifest] = []
        query = {"limit": str(LIST_LIMIT)}
        while True:
            answer = await self._api.request("GET", "/api/v1/nodes", query=query)
            nodes += answer["items"]
            following = (answer.get("metadata") or {}).get("continue")
            if not following:
                return nodes
            query["continue"] = following


def _path(kind: str, namespace: str, name: str = "") -> str:
    path = "/" + _COLLECTIONS[kind].format(namespace=namespace)
    return f"{path}/{name}" if name else path


def _manager() -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER}
