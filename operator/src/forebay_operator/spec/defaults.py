"""Defaults for all endpoints, from the chart's `server` values. Pure; the reconciler completes each endpoint with them.

The endpoint's own fields always take precedence. The chart passes the defaults as one JSON object.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from forebay_operator.spec.endpoint import REVISION_VARIABLES, Endpoint, Manifest, ModelCache
from forebay_operator.spec.parsing import InvalidSpec, camel, parse_fields
from forebay_operator.spec.served_names import ADAPTERS_VARIABLE, ARGUMENTS_VARIABLE, FILE_VARIABLE
from forebay_operator.spec.validation import LIMIT_VARIABLES, OWN_PREFIX, REFUSED_VARIABLES
from forebay_protocol.env_lists import SERVED_NAME_VARIABLES

CA_VOLUME = "forebay-ca"
CA_MOUNT = "/etc/forebay/ca"
CA_FILE = "ca.crt"
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Variables that name a file of CA certificates: for OpenSSL, Python's ssl and httpx; for requests; for curl; for
Amazon's SDKs."""

ONE_ENDPOINT = frozenset(
    {
        *SERVED_NAME_VARIABLES,
        ADAPTERS_VARIABLE,
        ARGUMENTS_VARIABLE,
        "ENABLE_LORA",
        FILE_VARIABLE,
        "MAX_CONCURRENCY",
    }
)
"""Variables that belong to one endpoint: they name models, or the gateway reads them in the endpoint's spec."""

SET_BY_SPEC = {
    "ENABLE_SLEEP_MODE": "spec.scaling.idle",
    "TENSOR_PARALLEL_SIZE": "spec.gpu.count",
    "VLLM_STARTUP_TIMEOUT": "spec.rollout.startupTimeout",
}
"""Variables that the operator sets from a field of the endpoint. A default would override the field."""

SAME_FLAG = {
    "MODEL_REVISION": "REVISION",
    "TOKENIZER_NAME": "TOKENIZER",
    "CUSTOM_CHAT_TEMPLATE": "CHAT_TEMPLATE",
    "OPENAI_RESPONSE_ROLE": "RESPONSE_ROLE",
}
"""RunPod's name -> vLLM's name for the same flag. The server prefers RunPod's name. So a default with
RunPod's name would override the endpoint's own variable with vLLM's name."""

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z]*)")
_ZERO = re.compile(r"0+(\.0*)?[a-zA-Z]*")


@dataclass(frozen=True)
class DefaultResources:
    """Requests and limits: `gpu` for each GPU of an endpoint, `cpu` for an endpoint without GPUs."""

    gpu: Manifest = field(default_factory=dict)
    cpu: Manifest = field(default_factory=dict)


@dataclass(frozen=True)
class CABundle:
    """A ConfigMap in the namespace of each endpoint, with CA certificates in PEM. "" means no ConfigMap."""

    config_map: str = ""
    key: str = CA_FILE


@dataclass(frozen=True)
class EndpointDefaults:
    """The defaults for all endpoints. The fields are fields of the spec, except `ca_bundle`."""

    env: tuple[Manifest, ...] = ()
    env_from: tuple[Manifest, ...] = ()
    image_pull_secrets: tuple[Manifest, ...] = ()
    resources: DefaultResources = DefaultResources()
    cache: ModelCache = field(default_factory=ModelCache)
    ca_bundle: CABundle = CABundle()


NO_DEFAULTS = EndpointDefaults()


def parse_defaults(text: str) -> EndpointDefaults:
    """Parse the defaults. "" means no defaults.

    Raises:
        InvalidSpec: the text is not a JSON object, or a default cannot work.
    """
    try:
        given = json.loads(text or "{}")
    except ValueError as error:
        raise InvalidSpec([f"server: not JSON: {error}"]) from error
    if not isinstance(given, Mapping):
        raise InvalidSpec(["server: not an object"])
    problems: list[str] = []
    values = parse_fields(EndpointDefaults, given, "server", problems)
    if problems:
        raise InvalidSpec(problems)
    defaults = EndpointDefaults(**values)
    if problems := list(_find_problems(defaults)):
        raise InvalidSpec(problems)
    return defaults


def complete_endpoint(endpoint: Endpoint, defaults: EndpointDefaults) -> Endpoint:
    """Add the defaults that the endpoint does not override.

    - env: each variable whose flag the endpoint does not set. A revision in the endpoint's spec sets a flag too.
    - envFrom: the endpoint's own sources come last, so they override.
    - resources: each resource that the endpoint neither requests nor limits.
    - cache: if the endpoint has no claim and no size. The size 0 means the pod's own disk.
    - imagePullSecrets: in addition to the endpoint's own.
    """
    own = {variable["name"] for variable in endpoint.env}
    given = {SAME_FLAG.get(name, name) for name in own | set(REVISION_VARIABLES if endpoint.model_revision else ())}
    env = [variable for variable in defaults.env if SAME_FLAG.get(variable["name"], variable["name"]) not in given]
    pod, bundle = endpoint.pod, defaults.ca_bundle
    if bundle.config_map:
        content = {"name": bundle.config_map, "items": [{"key": bundle.key, "path": CA_FILE}]}
        mount = {"name": CA_VOLUME, "mountPath": CA_MOUNT, "readOnly": True}
        pod = replace(
            pod,
            volumes=({"name": CA_VOLUME, "configMap": content}, *pod.volumes),
            volume_mounts=(mount, *pod.volume_mounts),
        )
        taken = own | {variable["name"] for variable in env}
        env += [{"name": name, "value": f"{CA_MOUNT}/{CA_FILE}"} for name in CA_VARIABLES if name not in taken]
    named = [secret.get("name") for secret in pod.image_pull_secrets]
    secrets = [secret for secret in defaults.image_pull_secrets if secret.get("name") not in named]
    return replace(
        endpoint,
        env=(*env, *endpoint.env),
        env_from=(*defaults.env_from, *endpoint.env_from),
        resources=_complete_resources(endpoint, defaults.resources),
        cache=_choose_cache(endpoint.cache, defaults.cache),
        pod=replace(pod, image_pull_secrets=(*pod.image_pull_secrets, *secrets)),
        default_env=frozenset(variable["name"] for variable in env),
        kept_defaults=_dump_kept(defaults),
    )


def _dump_kept(defaults: EndpointDefaults) -> str:
    """Render the defaults that an existing endpoint keeps, as JSON; "" without such defaults."""
    kept: dict[str, Any] = {}
    if defaults.resources != NO_DEFAULTS.resources:
        kept["resources"] = vars(defaults.resources)
    if defaults.cache != NO_DEFAULTS.cache:
        kept["cache"] = _to_json(defaults.cache)
    return json.dumps(kept, sort_keys=True) if kept else ""


def _to_json(cache: ModelCache) -> dict[str, Any]:
    return {camel(name): list(value) if isinstance(value, tuple) else value for name, value in vars(cache).items()}


def _choose_cache(own: ModelCache, default: ModelCache) -> ModelCache:
    if _ZERO.fullmatch(own.size):
        return ModelCache()
    return own if own.claim_name or own.size else default


def _complete_resources(endpoint: Endpoint, defaults: DefaultResources) -> Manifest:
    default = defaults.gpu if endpoint.gpu.count else defaults.cpu
    if not default:
        return endpoint.resources
    own = {name for amounts in endpoint.resources.values() for name in amounts or ()}
    completed: dict[str, Any] = {kind: dict(amounts or {}) for kind, amounts in endpoint.resources.items()}
    for kind, amounts in default.items():
        added = {name: _times(value, endpoint.gpu.count or 1) for name, value in amounts.items() if name not in own}
        if added:
            completed[kind] = {**completed.get(kind, {}), **added}
    return completed


def _times(quantity: Any, count: int) -> str:
    """Return a quantity for `count` GPUs: `count` times the quantity for one GPU."""
    match = _QUANTITY.fullmatch(str(quantity))
    if not match or count == 1:
        return str(quantity)
    number, unit = match.groups()
    return f"{(Decimal(number) * count).normalize():f}{unit}"


def _find_problems(defaults: EndpointDefaults) -> Iterator[str]:
    for place, variable in enumerate(defaults.env):
        name = variable.get("name")
        if not isinstance(name, str) or not isinstance(variable.get("value", ""), str):
            yield f"server.env[{place}]: {variable!r} has no name, or its value is not text"
        elif reason := _refusal(name):
            yield f"server.env: {name} is refused: {reason}"
    for kind, resources in vars(defaults.resources).items():
        for amounts, values in resources.items():
            if amounts not in ("requests", "limits") or not isinstance(values, Mapping):
                yield f"server.resources.{kind}.{amounts}: only requests and limits are possible, each as an object"
            elif wrong := [value for value in values.values() if not _QUANTITY.fullmatch(str(value))]:
                yield f"server.resources.{kind}.{amounts}: {wrong[0]!r} is not a quantity such as 500m or 8Gi"
    if defaults.cache.claim_name and defaults.cache.size:
        yield "server.cache: claimName names an existing claim, size creates one for each endpoint; give one of them"


def _refusal(name: str) -> str:
    """Return why a variable cannot have a default for all endpoints; "" if it can."""
    if name in REFUSED_VARIABLES:
        return REFUSED_VARIABLES[name]
    if name in SET_BY_SPEC:
        return f"each endpoint sets it by {SET_BY_SPEC[name]}"
    if name.startswith(OWN_PREFIX) and name not in LIMIT_VARIABLES:
        return f"names that begin with {OWN_PREFIX} are set by the operator"
    return "it belongs to one endpoint; set it in spec.env" if name in ONE_ENDPOINT else ""
