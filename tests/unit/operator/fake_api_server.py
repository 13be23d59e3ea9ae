"""A fake API server in memory, behind the interface of forebay_kube.api_client.Api, for fuzzing.

It keeps what the operator relies on and nothing else: uids, resource versions, generations, `AlreadyExists`, conflicts,
preconditions, and server-side apply in its simplest form, in which the fields of the apply before that are no longer
there are removed. It validates nothing but the status of endpoints, by the CRD's own schema.
"""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from forebay_kube.api_client import ApiClient, ApiServerError
from tests.unit.operator.schema import find_violations

Object = dict[str, Any]
Place = tuple[str, str]
"""Plural and name of an object; all are in one namespace."""

NAMESPACE = "team"
KINDS = {
    "deployments": ("apps/v1", "Deployment"),
    "services": ("v1", "Service"),
    "secrets": ("v1", "Secret"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "httproutes": ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    "inferenceendpoints": ("forebay.dev/v1alpha1", "InferenceEndpoint"),
    "pods": ("v1", "Pod"),
}
_PATH = re.compile(r"/api(?:s/[^/]+)?/[^/]+/namespaces/[^/]+/([a-z]+)(?:/([^/]+))?(/status|/scale)?")


class FakeApiServer(ApiClient):
    """Objects by plural and name.

    Attributes:
        objects: what there is.
        events: those of any pod.
        serves_routes: whether the Gateway API is installed.
        lists_pods: whether Kubernetes' own slices list a ready pod.
        refused: the plurals of which every write is refused with 422, as by a policy.
        failing: the number of the request from now on that gets no answer; after it all is well.
        takes_effect: whether that one is done all the same.
        writes: how many requests have changed something.
        minor: the minor version of Kubernetes.
    """

    def __init__(self, status_schema: Mapping[str, Any]) -> None:
        self.objects: dict[Place, Object] = {}
        self.events: list[Object] = []
        self.serves_routes = True
        self.lists_pods = True
        self.refused: set[str] = set()
        self.failing, self.takes_effect = 0, False
        self.writes = 0
        self.minor = 37
        self._status_schema = status_schema
        self._applied: dict[tuple[str, bool], Object] = {}
        """By uid, and whether of the status: what was applied last."""
        self._version = 0

    def put(self, plural: str, manifest: Object) -> Object:
        """Make an object, or put another in its place, as somebody else would."""
        name = manifest["metadata"]["name"]
        before = self.objects.get((plural, name))
        self._version += 1
        api_version, kind = KINDS[plural]
        metadata = {"uid": f"uid-{self._version}", "generation": 1, **manifest["metadata"]}
        if before:
            metadata["uid"] = before["metadata"]["uid"]
            changed = before.get("spec") != manifest.get("spec")
            metadata["generation"] = before["metadata"]["generation"] + changed
        metadata |= {"namespace": NAMESPACE, "resourceVersion": str(self._version)}
        made = {"apiVersion": api_version, "kind": kind, **manifest, "metadata": metadata}
        self.objects[plural, name] = copy.deepcopy(made)
        return self.objects[plural, name]

    def remove(self, plural: str, name: str) -> None:
        """Delete an object, and all that it owns."""
        gone = self.objects.pop((plural, name), None)
        if gone:
            for place, other in list(self.objects.items()):
                owners = other["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                    self.remove(*place)

    async def close(self) -> None:
        """See ApiClient."""

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """See ApiClient."""
        self.failing -= 1
        if self.failing == 0 and not self.takes_effect:
            raise ApiServerError(0, "Unreachable", "no answer")
        answer = self._answer(method, path, json.loads(json.dumps(body)), content_type)
        if self.failing == 0:
            raise ApiServerError(0, "Unreachable", "no answer")
        return copy.deepcopy(answer)

    def _answer(self, method: str, path: str, body: Any, content_type: str) -> Any:
        if path == "/version":
            return {"minor": str(self.minor)}
        if path == "/api/v1/nodes":
            return {"items": [], "metadata": {}}
        if path.endswith("/events"):
            return {"items": self.events, "metadata": {}}
        if path == "/apis/gateway.networking.k8s.io/v1":
            if not self.serves_routes:
                raise ApiServerError(404, "NotFound", "not installed")
            return {"resources": [{"name": "httproutes"}]}
        found = _PATH.fullmatch(path)
        assert found, f"the fake API server does not know {path}"
        plural, status = found[1], found[3] == "/status"
        name = found[2] or (body["metadata"]["name"] if body else "")
        live = self.objects.get((plural, name))
        if method == "GET" and not found[2]:
            labels = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
            own = {"metadata": {"labels": labels}, "endpoints": [{"addresses": ["10.2.0.1"]}]}
            return {"items": [*([own] if self.lists_pods else []), *self._list(plural)]}
        if method == "GET":
            return self._find(plural, name)
        if plural in self.refused and not status:
            raise ApiServerError(422, "Invalid", f"{plural} are refused here")
        if method == "POST":
            if live:
                raise ApiServerError(409, "AlreadyExists", f"{name} already exists")
            return self._write(plural, body)
        if method == "DELETE":
            if self._find(plural, name)["metadata"]["uid"] != body["preconditions"]["uid"]:
                raise ApiServerError(409, "Conflict", "another object")
            self.writes += 1
            self.remove(plural, name)
            return {}
        if content_type == "application/json-patch+json":
            return self._find(plural, name)  # of managedFields, which are not kept here
        if content_type == "application/merge-patch+json":
            before = self._find(plural, name)
            if found[3] and body["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]:
                raise ApiServerError(409, "Conflict", "another version")
            return self._write(plural, _merge(before, body))
        return self._apply(plural, body, live, status)

    def _apply(self, plural: str, body: Object, live: Object | None, status: bool) -> Object:
        uid = body["metadata"].pop("uid", None)
        if live is None:
            if uid:
                raise ApiServerError(409, "Conflict", "there is none of that uid")
            return self._write(plural, body)
        if uid and live["metadata"]["uid"] != uid:
            raise ApiServerError(409, "Conflict", "another object")
        if status:
            violations = list(find_violations(self._status_schema, body["status"], "status"))
            assert violations == [], f"the API server would refuse this status: {violations}"
        last = self._applied.get((live["metadata"]["uid"], status), {})
        after = _overlay(_without(live, last, body), body)
        self._applied[live["metadata"]["uid"], status] = copy.deepcopy(body)
        return self._write(plural, after) if after != live else live

    def _write(self, plural: str, manifest: Object) -> Object:
        before = copy.deepcopy(self.objects.get((plural, manifest["metadata"]["name"])))
        if before and {**manifest, "metadata": {**manifest["metadata"]}} == before:
            return before
        self.writes += 1
        made = self.put(plural, manifest)
        if not before:
            self._applied[made["metadata"]["uid"], False] = copy.deepcopy(manifest)
        return made

    def _list(self, plural: str) -> list[Object]:
        return [found for (kind, _), found in self.objects.items() if kind == plural]

    def _find(self, plural: str, name: str) -> Object:
        if (plural, name) not in self.objects:
            raise ApiServerError(404, "NotFound", f"{name} not found")
        return self.objects[plural, name]


def _merge(live: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        merged[key] = _merge(merged.get(key), value)
        if value is None:
            del merged[key]
    return merged


def _overlay(live: Any, applied: Any) -> Any:
    """The live value with all that is applied; lists are taken whole."""
    if isinstance(live, dict) and isinstance(applied, dict):
        return {**live, **{key: _overlay(live.get(key), value) for key, value in applied.items()}}
    return applied


def _without(live: Any, last: Any, now: Any) -> Any:
    """The live value without the fields that were applied last and no longer are."""
    if not isinstance(live, dict) or not isinstance(last, dict):
        return live
    now = now if isinstance(now, dict) else {}
    kept = {
        key: _without(value, last.get(key), now.get(key))
        for key, value in live.items()
        if key in now or key not in last
    }
    below = {key: _without(live[key], last[key], {}) for key in last if key in live and key not in now}
    return kept | {key: value for key, value in below.items() if isinstance(value, dict) and value}


def names_of(objects: Mapping[Place, Object], plural: str) -> Sequence[str]:
    """The names of all objects of a kind."""
    return [name for kind, name in objects if kind == plural]
