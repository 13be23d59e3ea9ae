"""Parses endpoints and EndpointSlices, as far as the gateway needs them. Pure; the watches call it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey, key_of_endpoint
from forebay_kube.object_conditions import find_condition

Manifest = Mapping[str, Any]

PORT_NAME = "http"
"""The name of the API's port in a Service and in its slices."""

DEFAULT_JOBS_PER_POD = 30
"""MAX_CONCURRENCY's default (forebay_server.config.settings.JobSettings)."""

MAX_JOBS_PER_POD = 1000
"""The most concurrent jobs of one pod, whatever the manifest says."""

_POD_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An InferenceEndpoint.

    Attributes:
        replicas: None while spec.replicas is absent. The operator fills it in within seconds.
        scales: whether it has spec.scaling, so that a request may start it.
        open: whether it needs no key.
        models: the names of its models that the operator knows.
        all_models: whether `models` has every name. False until the operator has seen the latest change, and while an
            operator of an earlier release writes the status.
        step, percent, eta: the progress of its start; "" and -1 if it is unknown. `eta` is in seconds.
        stalled: whether only a user's change helps. The operator has seen the latest change.
        ready, reason, message: from the Ready condition.
        pods: the number of its pods, ready or not, as counted by the operator.
        jobs: the most concurrent jobs of one of its pods (MAX_CONCURRENCY), from its manifest.
    """

    key: EndpointKey
    uid: str
    created: int
    replicas: int | None
    scales: bool
    suspended: bool
    open: bool
    models: tuple[str, ...]
    reason: str
    message: str
    stalled: bool
    step: str
    percent: int
    eta: int
    all_models: bool = True
    jobs: int = DEFAULT_JOBS_PER_POD
    ready: bool = False
    pods: int = 0

    @property
    def off(self) -> str:
        """The reason why a request cannot start the endpoint; "" if a request may start it, or if it should run
        anyway."""
        if self.suspended:
            return "suspend: true"
        return "replicas: 0, without scaling" if self.replicas == 0 and not self.scales else ""

    @property
    def failed(self) -> bool:
        """Whether the endpoint can start only after a change by the user."""
        return self.stalled and self.replicas != 0

    @property
    def progress(self) -> str:
        """The progress of the endpoint's start, for a person."""
        if not self.step:
            return self.reason or "Pending"
        parts = [self.step]
        parts += [f"{self.percent} %"] if self.percent >= 0 else []
        parts += [f"about {self.eta} s left"] if self.eta >= 0 else []
        return ", ".join(parts)


def read_endpoint(manifest: Manifest) -> Endpoint:
    """Parse an endpoint as the API server has it. Missing fields get their defaults."""
    metadata, spec, status = manifest["metadata"], manifest.get("spec") or {}, manifest.get("status") or {}
    ready, stalled = find_condition(status, "Ready"), find_condition(status, "Stalled")
    startup = status.get("startup") or {}
    current = status.get("observedGeneration", -1) >= metadata.get("generation", 0)
    created = metadata.get("creationTimestamp")
    return Endpoint(
        key=key_of_endpoint(manifest),
        uid=metadata.get("uid", ""),
        created=int(datetime.fromisoformat(created).timestamp()) if created else 0,
        replicas=None if spec.get("replicas") is None else int(spec["replicas"]),
        scales=spec.get("scaling") is not None,
        suspended=bool(spec.get("suspend")),
        open=(spec.get("auth") or {}).get("mode") == "None",
        models=tuple(status.get("models") or ()),
        all_models=status.get("modelsKnown") == "All" and current,
        reason=ready.get("reason", ""),
        message=ready.get("message", ""),
        stalled=stalled.get("status") == "True" and current,
        step=startup.get("step", ""),
        percent=startup.get("percent", -1),
        eta=startup.get("etaSeconds", -1),
        jobs=_jobs(spec.get("env") or ()),
        ready=ready.get("status") == "True",
        pods=int(status.get("replicas") or 0),
    )


def _jobs(env: Iterable[Manifest]) -> int:
    values = [str(each.get("value", "")) for each in env if each.get("name") == "MAX_CONCURRENCY"]
    given = values[-1].strip() if values else ""
    if not given.isdecimal() or given == "0":
        return DEFAULT_JOBS_PER_POD
    return int(given) if len(given) < len(str(MAX_JOBS_PER_POD)) else MAX_JOBS_PER_POD


class Address(NamedTuple):
    """The address and the name of a pod; "" if the name is unknown. Clients see the name as RunPod's worker ID."""

    host: str
    port: int
    name: str = ""

    @property
    def url_host(self) -> str:
        """The host in the form of URLs."""
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, slots=True)
class Slice:
    """An EndpointSlice: a port if the slice leads to the gateways, else pods.

    Attributes:
        owner: the uid of the endpoint that a slice with a port belongs to.
        created: the creation time in RFC 3339. Only the API server writes it.
        unready: pods that may become ready. Terminating pods are in neither list.
    """

    key: EndpointKey
    gateway_port: int = 0
    owner: str = ""
    created: str = ""
    ready: tuple[Address, ...] = ()
    unready: tuple[Address, ...] = ()

    @property
    def claim(self) -> tuple[int, str, str] | tuple[()]:
        """The fields that decide whether the endpoint gets the port; () for a slice of pods."""
        return (self.gateway_port, self.owner, self.created) if self.gateway_port else ()


def read_slice(manifest: Manifest) -> Slice | None:
    """Parse a slice as the API server has it.

    Returns None unless the operator or Kubernetes manages it for a Service, because others may write slices too.
    Returns None also for a slice without the API's port.
    """
    metadata = manifest["metadata"]
    labels = metadata.get("labels") or {}
    service = labels.get(names.SERVICE_LABEL)
    ports = [each for each in manifest.get("ports") or () if each.get("name") == PORT_NAME]
    if not service or not ports or not ports[0].get("port"):
        return None
    key, port, manager = (metadata["namespace"], service), ports[0]["port"], labels.get(names.SLICE_MANAGER_LABEL)
    if manager == names.SLICE_MANAGER:
        owner = _owner(metadata, names.KIND, service)
        if not owner or port not in names.GATEWAY_PORTS:
            return None
        return Slice(key, port, owner, metadata.get("creationTimestamp", ""))
    if manager != names.KUBERNETES_SLICE_MANAGER or not _owner(metadata, "Service", service):
        return None
    ready: list[Address] = []
    unready: list[Address] = []
    for each in manifest.get("endpoints") or ():
        conditions = each.get("conditions") or {}
        if conditions.get("terminating"):
            continue
        (unready if conditions.get("ready") is False else ready).append(
            Address(each["addresses"][0], port, _pod_name(each))
        )
    return Slice(key, ready=tuple(ready), unready=tuple(unready))


def _pod_name(entry: Manifest) -> str:
    """The name of an entry's pod; "" if it is not valid. The name must be valid, because it goes into a header."""
    target = entry.get("targetRef") or {}
    name = str(target.get("name", "")) if target.get("kind") == "Pod" else ""
    return name if _POD_NAME.fullmatch(name) else ""


def _owner(metadata: Manifest, kind: str, name: str) -> str:
    """The uid of the controller if it has this kind and name, else ""."""
    owners = [each for each in metadata.get("ownerReferences") or () if each.get("controller")]
    uids = [each["uid"] for each in owners if (each["kind"], each["name"]) == (kind, name)]
    return str(uids[0]) if uids else ""
