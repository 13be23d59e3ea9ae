"""Validates an endpoint beyond the types of its fields. It repeats the rules of the CRD. parsing.py calls it."""

import re
from collections.abc import Iterator, Mapping

from forebay_operator.spec.endpoint import REVISION_VARIABLES, Endpoint, Manifest, read_duration
from forebay_operator.spec.serve_arguments import find_flags
from forebay_operator.spec.served_names import ADAPTERS_VARIABLE
from forebay_operator.spec.source import is_revision
from forebay_protocol.refused_flags import REFUSED_FLAGS

MAX_NAME_LENGTH = 40
_ENDPOINT_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SECRET_NAME = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?")

MODEL_FORMS = (
    "a Hugging Face ID, hf://org/name, oci://image, pvc://claim/path, s3://bucket/path, gs://bucket/path, "
    "an absolute path"
)

_TLS = "TLS ends before the pod"
_GRPC = "the gRPC server has no key check"

REFUSED_VARIABLES = {
    "MODEL_NAME": "spec.model sets it; write the model there",
    "VLLM_API_KEY": "keys come from spec.auth",
    "SSL_KEYFILE": _TLS,
    "SSL_CERTFILE": _TLS,
    "SSL_CA_CERTS": _TLS,
    "SSL_CERT_REQS": _TLS,
    "SSL_CIPHERS": _TLS,
    "ENABLE_SSL_REFRESH": _TLS,
    "API_SERVER_COUNT": "streams of a pod with several API servers are cut when it drains",
    "GRPC": _GRPC,
    "GRPC_PORT": _GRPC,
    "ROOT_PATH": "the key check goes by the path",
    "VLLM_USE_RUST_FRONTEND": "it has no key check",
    "VLLM_SERVER_DEV_MODE": "it opens engine control to callers",
}
"""Variables that would disable authentication, draining or another feature -> the reason.

A test compares them with the CRD.
"""

OWN_PREFIX = "FOREBAY_"
"""The prefix of variables that the operator sets. LIMIT_VARIABLES are the exceptions."""

LIMIT_VARIABLES = frozenset(
    {
        "FOREBAY_MAX_IN_FLIGHT",
        "FOREBAY_MAX_BODY_BYTES",
        "FOREBAY_BODY_SECONDS",
        "FOREBAY_ENGINE_STUCK_SECONDS",
        "FOREBAY_ENGINE_PROBE_SECONDS",
    }
)
"""Settings of Forebay's server that users may set. RunPod and vLLM have no name for them."""

ADAPTER_VARIABLES = (ADAPTERS_VARIABLE, "ENABLE_LORA")
"""Variables that the operator sets from spec.adapters, if the endpoint has adapters."""

MAX_ARGUMENTS_LENGTH = 16384
"""The most characters of all items of spec.args together. The server gets them as one variable, which Linux limits to
128 KiB."""

PRODUCT_LABELS = {
    "nvidia.com": "nvidia.com/gpu.product",
    "amd.com": "amd.com/gpu.product-name",
    "gpu.intel.com": "gpu.intel.com/product",
}
"""Domain of a GPU resource -> the label with a node's product, from the vendor's feature discovery.

NVIDIA: k8s-device-plugin, docs/gpu-feature-discovery (NVIDIA-L40S). AMD: ROCm/k8s-device-plugin, cmd/k8s-node-labeller,
and docs/user-guide/installation.md (AMD_Instinct_MI300X_OAM; a node with several products has no such label). Intel:
intel-device-plugins-for-kubernetes, cmd/gpu_plugin/labels.md (Max_1550; data centre GPUs only, by rules for NFD).
"""

OWN_VOLUME_PREFIX = "forebay-"

OWN_DOMAINS = ("forebay.dev/", "app.kubernetes.io/")
"""Domains of labels and annotations that the operator alone sets on pods."""

VOLUME_TYPES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
"""The volume types of the restricted Pod Security Standard (pod-security-standards, Volume Types). hostPath is not
one."""

RESERVED_MOUNTS = re.compile(
    r"/|/(var/)?run(/(forebay|secrets)(/.*)?)?|/var|/(model|adapters)(/.*)?|/cache|/tmp|/(dev|proc|sys)(/.*)?"
)
"""Paths that the operator or the runtime mounts, and their parents."""

MAX_DURATION_SECONDS = 24 * 3600
"""Seconds that a drain or a start may take at most."""


def find_in_name(name: str) -> Iterator[str]:
    """One sentence for a name that is not valid for Services and URLs."""
    if len(name) > MAX_NAME_LENGTH or not _ENDPOINT_NAME.fullmatch(name):
        form = f"a DNS label of at most {MAX_NAME_LENGTH} characters that begins with a letter"
        yield f"metadata.name: {name!r} is not {form}"


def find_problems(endpoint: Endpoint) -> Iterator[str]:
    """One sentence for each problem, with the field first.

    Only the API server can validate names, quantities and Kubernetes' own objects. It rejects them in the children, and
    the endpoint then has the reason Refused.
    """
    unreadable = list(_find_unreadable(endpoint))
    if unreadable:
        yield from unreadable
        return
    yield from _find_in_env(endpoint)
    yield from _find_in_args(endpoint)
    yield from _find_in_revision(endpoint)
    if endpoint.auth.mode == "None" and endpoint.auth.secret_name:
        yield "spec.auth: secretName needs mode APIKey; remove secretName, or set mode to APIKey"
    if not _SECRET_NAME.fullmatch(endpoint.auth.secret_name):  # it becomes part of a path
        yield f"spec.auth.secretName: {endpoint.auth.secret_name!r} can't be the name of a Secret"
    if endpoint.cache.claim_name and endpoint.cache.size:
        yield "spec.cache: claimName names an existing claim, size creates a new one; set only one of these fields"
    if endpoint.cache.storage_class_name and not endpoint.cache.size:
        yield "spec.cache: storageClassName is for the claim that size creates; give size as well"
    if endpoint.route.hostnames and not endpoint.route.parent_refs:
        yield "spec.route: hostnames needs the Gateways that serve them; give parentRefs as well"
    for kind in ("requests", "limits"):
        if endpoint.gpu.resource in (endpoint.resources.get(kind) or ()):
            yield f"spec.resources.{kind}: set the number of {endpoint.gpu.resource} in spec.gpu.count"
    if endpoint.gpu.product and endpoint.gpu.resource.partition("/")[0] not in PRODUCT_LABELS:
        yield f"spec.gpu.product: no label is known for {endpoint.gpu.resource}; choose nodes by spec.pod.nodeSelector"
    for name in {adapter.name for adapter in endpoint.adapters} & set(endpoint.model_names):
        yield f"spec.adapters: {name!r} is the name of the model itself; give the adapter another name"
    if any(adapter.source.kind == "bucket" for adapter in endpoint.adapters):
        yield "spec.adapters: vLLM reads no adapters from buckets; give a Hugging Face ID, pvc://, oci:// or a path"
    for adapter in endpoint.adapters:
        if adapter.source.revision:
            yield f"spec.adapters: {adapter.name} names a revision; vLLM reads adapters from the main branch only"
    yield from _find_in_scaling(endpoint)
    yield from _find_in_rollout(endpoint)
    yield from _find_in_pod(endpoint)


def _find_unreadable(endpoint: Endpoint) -> Iterator[str]:
    """One sentence for each value of the wrong type in `spec.env`, `spec.args` and `spec.resources`."""
    for place, variable in enumerate(endpoint.env):
        if not isinstance(variable.get("name"), str) or not isinstance(variable.get("value", ""), str):
            yield f"spec.env[{place}]: {variable!r} has no name, or its value is not text"
    try:
        _ = endpoint.arguments
    except ValueError as error:
        yield f"spec.args: {error}"
    for kind, amounts in endpoint.resources.items():
        if not isinstance(amounts, Mapping):
            yield f"spec.resources.{kind}: {amounts!r} is not an object"


def _find_in_env(endpoint: Endpoint) -> Iterator[str]:
    for name in (variable["name"] for variable in endpoint.env):
        reason = REFUSED_VARIABLES.get(name)
        if name.startswith(OWN_PREFIX) and name not in LIMIT_VARIABLES:
            own = ", ".join(sorted(LIMIT_VARIABLES))
            reason = f"names that begin with {OWN_PREFIX} are set by the operator, except {own}"
        if name in ADAPTER_VARIABLES and endpoint.adapters:
            reason = "spec.adapters sets it; use either spec.adapters or this variable"
        if reason:
            yield f"spec.env: {name} is refused: {reason}"


def _find_in_args(endpoint: Endpoint) -> Iterator[str]:
    words = endpoint.arguments
    if sum(map(len, endpoint.args)) > MAX_ARGUMENTS_LENGTH:
        yield f"spec.args: more than {MAX_ARGUMENTS_LENGTH} characters; put long values in a file or in spec.env"
    if words and not words[0].startswith("-"):
        yield f"spec.args: {words[0]!r} belongs to no flag; remove `vllm serve` and the model"
    if "--" in words:
        yield "spec.args: a bare -- ends the flags; remove it"
    for name in dict.fromkeys(find_flags(words)):
        reason = REFUSED_FLAGS.get(name)
        if name == "MODEL":
            reason = "spec.model sets it; write the model there"
        if name.removeprefix("NO_") in ADAPTER_VARIABLES and endpoint.adapters:
            reason = "spec.adapters sets it; use either spec.adapters or this flag"
        if reason:
            yield f"spec.args: --{name.lower().replace('_', '-')} is refused: {reason}"


def _find_in_revision(endpoint: Endpoint) -> Iterator[str]:
    revision, model = endpoint.revision, endpoint.model
    if revision and not is_revision(revision):
        yield f"spec.revision: {revision!r} is not a commit, a tag or a branch, such as v1.0"
    if revision and model.kind != "hub":
        yield "spec.revision: it is a revision of a Hugging Face repository, and the model comes from elsewhere"
    if revision and model.revision not in ("", revision):
        yield f"spec.revision: spec.model names another revision, {model.revision}; keep one of them"
    if not endpoint.model_revision:
        return
    for name in (variable["name"] for variable in endpoint.env):
        if name in REVISION_VARIABLES:
            yield f"spec.env: {name} is refused: spec.revision or spec.model sets the revision; keep one of them"
    for place, words in (("spec.args", endpoint.arguments), ("VLLM_EXTRA_ARGS", endpoint.extra_arguments)):
        if "REVISION" in find_flags(words):
            yield f"{place}: --revision is refused: spec.revision or spec.model sets the revision; keep one of them"


def _find_in_scaling(endpoint: Endpoint) -> Iterator[str]:
    scaling = endpoint.scaling
    if scaling is None:
        return
    if scaling.min_replicas > scaling.max_replicas:
        yield "spec.scaling: minReplicas is more than maxReplicas, which defaults to 1"
    target = scaling.target
    if bool(target.concurrency) == bool(target.queue_delay):
        yield "spec.scaling.target: give one of concurrency and queueDelay"
    if target.queue_delay:
        yield from _find_in_duration("spec.scaling.target.queueDelay", target.queue_delay, 1)
    yield from _find_in_duration("spec.scaling.idleTimeout", scaling.idle_timeout, 1)
    yield from _find_in_duration("spec.scaling.stabilization.up", scaling.stabilization.up, 2)
    yield from _find_in_duration("spec.scaling.stabilization.down", scaling.stabilization.down, 2)


def _find_in_rollout(endpoint: Endpoint) -> Iterator[str]:
    yield from _find_in_duration("spec.rollout.drainTimeout", endpoint.rollout.drain_timeout, 0)
    yield from _find_in_duration("spec.rollout.startupTimeout", endpoint.rollout.startup_timeout, 10)


def _find_in_duration(field: str, text: str, min_seconds: int) -> Iterator[str]:
    try:
        seconds = read_duration(text)
    except ValueError as error:
        yield f"{field}: {error}"
        return
    if not min_seconds <= seconds <= MAX_DURATION_SECONDS:
        yield f"{field}: {text} is not between {min_seconds}s and 24h"


def _find_in_pod(endpoint: Endpoint) -> Iterator[str]:
    pod = endpoint.pod
    for place, keys in (("labels", pod.labels), ("annotations", pod.annotations)):
        for key in keys:
            if key.startswith(OWN_DOMAINS):
                yield f"spec.pod.{place}: {key} is reserved for the operator; use your own domain"
    for volume in pod.volumes:
        yield from _find_in_volume(volume)
    names = {str(volume.get("name")) for volume in pod.volumes}
    for mount in pod.volume_mounts:
        if str(mount.get("name")) not in names:
            yield f"spec.pod.volumeMounts: {mount.get('name')} is not among spec.pod.volumes"
        path = str(mount.get("mountPath", ""))
        if not path.startswith("/"):
            yield f"spec.pod.volumeMounts: {path!r} is not an absolute path, such as /data"
        elif ".." in path or RESERVED_MOUNTS.fullmatch(path.rstrip("/") or "/"):
            yield f"spec.pod.volumeMounts: {path} is taken by the server's own volumes; mount elsewhere, such as /data"


def _find_in_volume(volume: Manifest) -> Iterator[str]:
    name, kinds = str(volume.get("name", "")), [key for key in volume if key != "name"]
    if name.startswith(OWN_VOLUME_PREFIX):
        yield f"spec.pod.volumes: {name} begins with {OWN_VOLUME_PREFIX}, as the operator's own volumes do; rename it"
    if len(kinds) != 1 or kinds[0] not in VOLUME_TYPES:
        allowed = ", ".join(sorted(VOLUME_TYPES))
        yield f"spec.pod.volumes: {name} must be exactly one of {allowed}"
