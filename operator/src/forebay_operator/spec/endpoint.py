"""The spec of an endpoint as dataclasses.

Each class mirrors an object of the CRD's schema: the same fields in snake case, with the same defaults, enums and
bounds. tests/unit/operator/test_contract.py compares the two. The schema describes each field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from forebay_operator.spec.inheritance import NOTHING_INHERITED, Inherited
from forebay_operator.spec.serve_arguments import split_arguments, split_command_line
from forebay_operator.spec.served_names import (
    ARGUMENTS_VARIABLE,
    find_adapter_names,
    find_model_names,
    may_hide_names,
)
from forebay_operator.spec.source import Source

Manifest = Mapping[str, Any]
"""A Kubernetes object in its JSON form."""

FIRST_REPLICAS = 1
"""The number of replicas of an endpoint whose number was never set."""

MAX_REPLICAS = 1000
"""The schema's maximum of spec.replicas and of status.desiredReplicas."""

REVISION_VARIABLES = ("MODEL_REVISION", "REVISION")
"""Variables that set the revision of the model; the first wins."""

OverlayMode = Literal["Copy", "ImageVolume", "None"]
"""How Forebay's server gets into the pod: an init container copies it, its image is mounted as a volume, or the pod's
image has it."""

_DURATION = re.compile(r"(?=.)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True)
class Between:
    """The bounds of a number, both inclusive."""

    minimum: int
    maximum: int


@dataclass(frozen=True)
class Gpu:
    """GPUs of one replica; `count` 0 means that it runs on the CPU."""

    count: Annotated[int, Between(0, 64)] = 1
    resource: str = "nvidia.com/gpu"
    product: str = ""


@dataclass(frozen=True)
class Auth:
    """The callers that may use the endpoint. `secret_name` is the user's own Secret, or empty."""

    mode: Literal["APIKey", "None"] = "APIKey"
    secret_name: str = ""


@dataclass(frozen=True)
class ModelCache:
    """Where downloaded weights and compiled code are: the user's claim, a created claim, or the pod's disk."""

    claim_name: str = ""
    size: str = ""
    storage_class_name: str = ""
    access_modes: tuple[Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"], ...] = ("ReadWriteOnce",)
    deletion_policy: Literal["Retain", "Delete"] = "Retain"


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter that clients name as `model`."""

    name: str
    source: Source


@dataclass(frozen=True)
class Service:
    """The Service in front of the servers."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    port: Annotated[int, Between(1, 65535)] = 80
    annotations: Manifest = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """An HTTPRoute on the user's Gateways; none without `parent_refs`."""

    parent_refs: tuple[Manifest, ...] = ()
    hostnames: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkPolicy:
    """The NetworkPolicy of the servers' pods. `ports` are open in addition to the API's port."""

    create: bool = True
    ports: tuple[Annotated[int, Between(1, 65535)], ...] = ()


@dataclass(frozen=True)
class Pod:
    """The fields that the user adds to the servers' pods."""

    labels: Manifest = field(default_factory=dict)
    annotations: Manifest = field(default_factory=dict)
    node_selector: Manifest = field(default_factory=dict)
    tolerations: tuple[Manifest, ...] = ()
    affinity: Manifest = field(default_factory=dict)
    topology_spread_constraints: tuple[Manifest, ...] = ()
    priority_class_name: str = ""
    runtime_class_name: str = ""
    service_account_name: str = ""
    image_pull_secrets: tuple[Manifest, ...] = ()
    volumes: tuple[Manifest, ...] = ()
    volume_mounts: tuple[Manifest, ...] = ()


@dataclass(frozen=True)
class Rollout:
    """How a change reaches the pods."""

    strategy: Literal["Surge", "Replace"] = "Surge"
    drain_timeout: str = "5m"
    startup_timeout: str = "30m"

    @property
    def drain_seconds(self) -> int:
        """The number of seconds in which running streams must finish after SIGTERM."""
        return read_duration(self.drain_timeout)

    @property
    def startup_seconds(self) -> int:
        """The most seconds that may pass from the start of the container to the first answer of the model."""
        return read_duration(self.startup_timeout)


UpgradeMode = Literal["Automatic", "OnChange", "Manual"]
"""When an endpoint gets the pod template of another operator version or of other chart values."""


@dataclass(frozen=True)
class Upgrade:
    """How a pod template that only the operator has changed reaches the pods. If `mode` is None, the chart's mode
    applies."""

    mode: UpgradeMode | None = None


@dataclass(frozen=True)
class Target:
    """The target of the autoscaler. One of the two fields is set, and the other is 0 or empty."""

    concurrency: Annotated[int, Between(1, 100000)] = 0
    queue_delay: str = ""


@dataclass(frozen=True)
class Stabilization:
    """How long a higher or lower load must last before the number of replicas changes."""

    up: str = "6s"
    down: str = "1m"


@dataclass(frozen=True)
class Scaling:
    """How the number of replicas follows the load."""

    min_replicas: Annotated[int, Between(0, 1000)] = 0
    max_replicas: Annotated[int, Between(1, 1000)] = 1
    target: Target = Target(concurrency=32)
    idle_timeout: str = "5m"
    idle: Literal["Zero", "Sleep"] = "Zero"
    stabilization: Stabilization = Stabilization()

    @property
    def sleeps(self) -> bool:
        """Whether the last replica sleeps instead of ending."""
        return self.idle == "Sleep" and self.min_replicas == 0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The complete spec of an endpoint, with all defaults."""

    model: Source
    revision: str = ""
    args: tuple[str, ...] = ()
    env: tuple[Manifest, ...] = ()
    env_from: tuple[Manifest, ...] = ()
    image: str = ""
    overlay: OverlayMode | None = None
    """If None, the operator's setting applies."""
    gpu: Gpu = Gpu()
    resources: Manifest = field(default_factory=dict)
    replicas: Annotated[int, Between(0, MAX_REPLICAS)] = FIRST_REPLICAS
    """The schema has no default: an absent number is filled in before the spec is parsed (spec/replicas.py)."""
    scaling: Scaling | None = None
    auth: Auth = Auth()
    cache: ModelCache = ModelCache()
    adapters: tuple[Adapter, ...] = ()
    service: Service = Service()
    route: Route = Route()
    network_policy: NetworkPolicy = NetworkPolicy()
    suspend: bool = False
    pod: Pod = Pod()
    rollout: Rollout = Rollout()
    upgrade: Upgrade = Upgrade()


@dataclass(frozen=True, kw_only=True)
class Endpoint(Spec):
    """One InferenceEndpoint."""

    namespace: str
    name: str
    uid: str
    generation: int
    inherited: Inherited = NOTHING_INHERITED
    """The labels and annotations that the children inherit."""
    given: Manifest = field(default_factory=dict, compare=False, repr=False)
    """The spec as the API server has it."""
    upgrade_approval: str = ""
    """The value of the annotation that approves an upgrade; "" without it."""
    default_env: frozenset[str] = frozenset()
    """The names in `env` that came from the defaults of all endpoints."""
    kept_defaults: str = ""
    """The defaults of resources and cache that the endpoint has, as JSON; see resources/kept_defaults.py."""

    @property
    def own_env(self) -> tuple[Manifest, ...]:
        """The variables that the endpoint itself sets."""
        return tuple(variable for variable in self.env if variable["name"] not in self.default_env)

    @property
    def wanted(self) -> int:
        """The number of replicas that should run: 0 while the endpoint is suspended."""
        return 0 if self.suspend else self.replicas

    @property
    def variables(self) -> Mapping[str, Manifest]:
        """The variables in `env` by their names."""
        return {variable["name"]: variable for variable in self.env}

    @property
    def model_revision(self) -> str:
        """The revision of the model on the hub, from spec.revision or from spec.model; "" if neither has one."""
        return self.revision or self.model.revision

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words of spec.args. Raises ValueError for an unclosed quotation mark."""
        return split_arguments(self.args)

    @property
    def extra_arguments(self) -> tuple[str, ...]:
        """The words of VLLM_EXTRA_ARGS, if its value is in the spec."""
        return split_command_line(self.variables.get(ARGUMENTS_VARIABLE, {}).get("value", ""))

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names of the model for clients; empty if only a Secret or a ConfigMap has them."""
        names = find_model_names(self.arguments, self.variables)
        if names is None:
            return ()
        return names or (self.model.source if self.model.kind == "hub" else self.name,)

    @property
    def served_names(self) -> tuple[str, ...]:
        """The names of the model and of the adapters for clients.

        If the name of the model is unknown, adapters in `args` and `env` are omitted: a list without the model would be
        wrong.
        """
        others = find_adapter_names(self.arguments, self.variables) if self.model_names else ()
        return self.model_names + (tuple(adapter.name for adapter in self.adapters) or others)

    @property
    def knows_all_names(self) -> bool:
        """Whether `served_names` is complete: no Secret, ConfigMap, file or other argument can add a name."""
        return not self.env_from and not may_hide_names(self.arguments, self.variables)

    @property
    def url(self) -> str:
        """The base URL for OpenAI clients in the cluster, in the form of RunPod's endpoints."""
        port = "" if self.service.port == 80 else f":{self.service.port}"
        return f"http://{self.name}.{self.namespace}.svc{port}/v2/{self.name}/openai/v1"

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources of the model and of the adapters."""
        return self.model, *(adapter.source for adapter in self.adapters)


def read_duration(text: str) -> int:
    """Parse a duration such as 90s, 5m or 1h30m. Returns seconds.

    Raises:
        ValueError: the text has another form.
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration such as 90s, 5m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds
