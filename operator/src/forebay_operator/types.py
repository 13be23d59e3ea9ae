"""The endpoint as the operator sees it: the manifest, parsed, defaulted and checked.

The schema of the CRD refuses most of what `parse_endpoint` refuses. It is checked here again because an older schema
may be installed, and because an object that cannot be understood has to end in a status, never in a crash.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Manifest = Mapping[str, Any]
"""An object as Kubernetes spells it."""

MAX_NAME = 40
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")

SERVED_NAME_VARIABLES = ("OPENAI_SERVED_MODEL_NAME_OVERRIDE", "SERVED_MODEL_NAME")
"""Variables that name the model for clients; the first wins."""

REFUSED_VARIABLES = {
    "MODEL_NAME": "it is set from spec.model; write the model there",
    "VLLM_API_KEY": "keys come from spec.auth",
    "SSL_KEYFILE": "TLS ends before the pod",
    "SSL_CERTFILE": "TLS ends before the pod",
    "SSL_CA_CERTS": "TLS ends before the pod",
    "SSL_CERT_REQS": "TLS ends before the pod",
    "SSL_CIPHERS": "TLS ends before the pod",
    "ENABLE_SSL_REFRESH": "TLS ends before the pod",
    "API_SERVER_COUNT": "streams of a pod with several API servers are cut when it drains",
    "GRPC": "the gRPC server has no key check",
    "GRPC_PORT": "the gRPC server has no key check",
    "ROOT_PATH": "the key check goes by the path",
    "VLLM_USE_RUST_FRONTEND": "it has no key check",
    "VLLM_SERVER_DEV_MODE": "it opens engine control to callers",
}
"""Variables that would switch off a promise of the endpoint, with the reason. A test compares the CRD's rules."""


class InvalidSpec(Exception):
    """The endpoint asks for something that cannot work.

    `problems` holds one sentence each, naming the field first.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Model:
    """Where the weights come from.

    Attributes:
        kind: `hub` (a Hugging Face id), `image` (an image reference) or `path` (absolute, in the server image).
        source: the id, the reference without `oci://`, or the path.
    """

    kind: Literal["hub", "image", "path"]
    source: str


@dataclass(frozen=True)
class Gpu:
    """GPUs of one replica; `count` 0 means that it runs on the CPU."""

    count: int
    resource: str


@dataclass(frozen=True)
class Auth:
    """Who may call. `secret_name` is the user's own Secret, or empty."""

    mode: Literal["APIKey", "None"]
    secret_name: str


@dataclass(frozen=True)
class Service:
    """How the Service in front of the servers looks."""

    type: str
    port: int
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Endpoint:
    """One InferenceEndpoint, complete: no field is optional any more."""

    namespace: str
    name: str
    uid: str
    generation: int
    model: Model
    env: tuple[Manifest, ...]
    env_from: tuple[Manifest, ...]
    image: str
    gpu: Gpu
    resources: Manifest
    replicas: int
    auth: Auth
    service: Service

    @property
    def served_names(self) -> tuple[str, ...]:
        """What clients may write as `model`; none when only a Secret or a ConfigMap knows."""
        given = {variable["name"]: variable for variable in self.env}
        for name in SERVED_NAME_VARIABLES:
            if name in given:
                return tuple(given[name].get("value", "").replace(",", " ").split())
        return (self.model.source if self.model.kind == "hub" else self.name,)

    @property
    def url(self) -> str:
        """Base URL for OpenAI clients in the cluster, in the form of RunPod's endpoints."""
        port = "" if self.service.port == 80 else f":{self.service.port}"
        return f"http://{self.name}.{self.namespace}.svc{port}/v2/{self.name}/openai/v1"


def parse_endpoint(manifest: Manifest) -> Endpoint:
    """Read an InferenceEndpoint as the API server delivers it.

    Raises:
        InvalidSpec: something in it cannot work; all problems found are named.
    """
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    gpu, auth, service = spec.get("gpu") or {}, spec.get("auth") or {}, spec.get("service") or {}
    problems = list(_find_problems(metadata["name"], spec))
    if problems:
        raise InvalidSpec(problems)
    return Endpoint(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        model=_parse_model(spec["model"]),
        env=tuple(spec.get("env") or ()),
        env_from=tuple(spec.get("envFrom") or ()),
        image=spec.get("image") or "",
        gpu=Gpu(count=gpu.get("count", 1), resource=gpu.get("resource", "nvidia.com/gpu")),
        resources=spec.get("resources") or {},
        replicas=spec.get("replicas", 1),
        auth=Auth(mode=auth.get("mode", "APIKey"), secret_name=auth.get("secretName", "")),
        service=Service(
            type=service.get("type", "ClusterIP"),
            port=service.get("port", 80),
            annotations=service.get("annotations") or {},
        ),
    )


def _parse_model(model: str) -> Model:
    if model.startswith("oci://"):
        return Model("image", model.removeprefix("oci://"))
    return Model("path" if model.startswith("/") else "hub", model)


def _find_problems(name: str, spec: Manifest) -> list[str]:
    problems = []
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        problems.append(
            f"metadata.name: {name!r} is not a DNS label of at most {MAX_NAME} characters that begins with a letter"
        )
    model = spec.get("model")
    if not isinstance(model, str) or not model:
        problems.append("spec.model: missing; give a Hugging Face id, oci://image or an absolute path")
    elif not model.startswith(("oci://", "/")) and not _HUB_ID.fullmatch(model):
        problems.append(f"spec.model: {model!r} is neither a Hugging Face id nor oci://image nor an absolute path")
    for variable in spec.get("env") or ():
        reason = REFUSED_VARIABLES.get(variable["name"])
        if variable["name"].startswith("FOREBAY_"):
            reason = "names that begin with FOREBAY_ are set by the operator"
        if reason:
            problems.append(f"spec.env: {variable['name']} is refused: {reason}")
    auth = spec.get("auth") or {}
    if auth.get("mode") == "None" and auth.get("secretName"):
        problems.append("spec.auth: mode None takes no secretName")
    return problems
