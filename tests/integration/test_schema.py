"""The API server rejects invalid specs, says what to do, and sets the defaults of omitted fields."""

import json
from typing import Any

import pytest

from forebay_operator.resources import build_deployment, build_service, build_unwatched
from forebay_operator.settings import Settings
from forebay_operator.spec import REFUSED_VARIABLES, Endpoint, InvalidSpec, parse_endpoint
from forebay_operator.spec.validation import LIMIT_VARIABLES
from forebay_protocol.refused_flags import REFUSED_FLAGS
from tests.endpoints import endpoint
from tests.integration.every_field import EVERYTHING
from tests.kubectl import Kubectl, Manifest, Refused


def with_env(*variables: Manifest) -> Manifest:
    return endpoint(env=list(variables))


def with_adapters(*adapters: Manifest, **spec: Any) -> Manifest:
    return endpoint(adapters=list(adapters), **spec)


def with_volume(volume: Manifest) -> Manifest:
    return endpoint(pod={"volumes": [volume]})


def with_mount(path: str) -> Manifest:
    return endpoint(
        pod={"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": path}]}
    )


ADAPTER = {"name": "a", "source": "org/adapter"}

INVALID = [
    ("a name of 41 characters", endpoint("a" * 41), "at most 40 characters"),
    ("a name with a dot", endpoint("a.b"), "lower-case letters, digits and '-'"),
    ("a name that begins with a digit", endpoint("1a"), "beginning with a letter"),
    ("no spec", {**endpoint(), "spec": None}, "spec: Required value"),
    ("no model", {**endpoint(), "spec": {}}, "spec.model: Required value"),
    ("an empty model", endpoint(model=""), "must be a Hugging Face ID"),
    ("a model with a space", endpoint(model="my model"), "must be a Hugging Face ID"),
    ("a model with two slashes", endpoint(model="a/b/c"), "must be a Hugging Face ID"),
    ("an image without a name", endpoint(model="oci://"), "must be a Hugging Face ID"),
    ("a path that climbs", endpoint(model="/models/../../etc/"), "an absolute path in the server image"),
    ("a claim without a name", endpoint(model="pvc:///a"), "a folder in a claim (pvc://claim/path)"),
    ("a path in a claim that climbs", endpoint(model="pvc://claim/../a"), "a folder in a claim (pvc://claim/path)"),
    ("a bucket without a name", endpoint(model="s3://"), "a bucket (s3://bucket/path"),
    ("another scheme", endpoint(model="https://hub/model"), "must be a Hugging Face ID"),
    ("a page of the hub", endpoint(model="https://huggingface.co/a/b"), "without https://huggingface.co/"),
    ("a hub address without a name", endpoint(model="hf://"), "must be a Hugging Face ID"),
    ("a hub address of a file", endpoint(model="hf://a/b/c.bin"), "hf://org/name or hf://org/name:revision"),
    ("a hub address with an empty revision", endpoint(model="hf://a/b:"), "must be a Hugging Face ID"),
    ("a revision with a space", endpoint(revision="a b"), "a revision is a commit, a tag or a branch"),
    ("a revision that climbs", endpoint(revision="a/../b"), "a revision is a commit, a tag or a branch"),
    ("a revision of an image", endpoint(model="oci://a/b:1", revision="v1"), "this model comes from elsewhere"),
    ("a revision of a path", endpoint(model="/a", revision="v1"), "this model comes from elsewhere"),
    ("two revisions", endpoint(model="hf://a/b:v1", revision="v2"), "name different revisions; set the revision"),
    (
        "a revision as a variable too",
        endpoint(revision="v1", env=[{"name": "MODEL_REVISION", "value": "v1"}]),
        "remove MODEL_REVISION and REVISION from spec.env",
    ),
    (
        "a revision of the model and as an argument",
        endpoint(model="hf://a/b@v1", args=["--revision=v1"]),
        "--revision from spec.args",
    ),
    ("a whole command", endpoint(args=["vllm serve a/b --seed 1"]), "remove `vllm serve` and the model"),
    ("the model as an argument", endpoint(args=["--model=a/b"]), "spec.model sets the model; write the model there"),
    ("a key as an argument", endpoint(args=["--seed=1", "--api_key k"]), "keys come from spec.auth"),
    ("a bare dash", endpoint(args=["--seed=1", "--"]), "a bare -- ends the flags"),
    ("too many characters of arguments", endpoint(args=5 * ["-" + 4000 * "x"]), "more than 16384 characters"),
    ("an argument that is a number", endpoint(args=["--seed", 1]), "must be of type string"),
    (
        "an adapter with a revision",
        with_adapters({"name": "a", "source": "hf://a/b:v1"}),
        "hf://org/name, without a revision",
    ),
    (
        "adapters as arguments too",
        with_adapters(ADAPTER, args=["--lora-modules", "b=a/b"]),
        "use either spec.adapters or these flags",
    ),
    ("a field that does not exist", endpoint(modle="x"), 'unknown field "spec.modle"'),
    ("negative replicas", endpoint(replicas=-1), "greater than or equal to 0"),
    ("too many replicas", endpoint(replicas=1001), "less than or equal to 1000"),
    ("replicas as text", endpoint(replicas="two"), "must be of type integer"),
    ("half a GPU", endpoint(gpu={"count": 0.5}), "must be of type integer"),
    ("negative GPUs", endpoint(gpu={"count": -1}), "greater than or equal to 0"),
    ("a GPU resource without a domain", endpoint(gpu={"resource": "gpu"}), "a domain, '/' and a name"),
    (
        "GPUs among the limits",
        endpoint(resources={"limits": {"nvidia.com/gpu": 1}}),
        "set the number of GPUs in spec.gpu.count",
    ),
    (
        "a request above its limit",
        endpoint(resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}),
        "a request must not be larger than the limit",
    ),
    ("an invalid amount", endpoint(resources={"limits": {"memory": "lots"}}), "an amount is a number"),
    ("a negative amount", endpoint(resources={"limits": {"cpu": -1}}), "an amount is a number that is not negative"),
    ("a negative amount as text", endpoint(resources={"requests": {"cpu": "-1m"}}), "that is not negative"),
    ("an unknown resource", endpoint(resources={"limits": {"foo": 1}}), "a resource is cpu, memory"),
    ("a resource without a name", endpoint(resources={"requests": {"a.b/": 1}}), "a device's name with its domain"),
    ("a Secret with capitals", endpoint(auth={"secretName": "Keys"}), "the name of a Secret has lower-case letters"),
    ("an annotation with a space", endpoint(service={"annotations": {"a b": "c"}}), "the name of an annotation"),
    ("an unknown auth mode", endpoint(auth={"mode": "Basic"}), 'supported values: "APIKey", "None"'),
    (
        "a Secret without keys in use",
        endpoint(auth={"mode": "None", "secretName": "s"}),
        "auth.secretName needs auth.mode APIKey",
    ),
    ("an invalid port", endpoint(service={"port": 70000}), "less than or equal to 65535"),
    ("an invalid Service type", endpoint(service={"type": "Internal"}), "Unsupported value"),
    ("an image with a space", endpoint(image="my image"), "an image's name has no spaces"),
    ("an unknown overlay", endpoint(overlay="Guess"), 'supported values: "Copy", "ImageVolume", "None"'),
    ("a variable name with a dash", with_env({"name": "MAX-LEN", "value": "1"}), "letters, digits and '_' only"),
    ("a variable without a name", with_env({"name": "", "value": "1"}), "letters, digits and '_' only"),
    ("the same variable twice", with_env({"name": "A"}, {"name": "A"}), "Duplicate value"),
    (
        "a value from two places",
        with_env({"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
        "give value or valueFrom, not both",
    ),
    (
        "a Secret without a key",
        with_env({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}),
        "secretKeyRef.key: Required value",
    ),
    ("a variable of the operator's", with_env({"name": "FOREBAY_AUTH", "value": "None"}), "set by the operator"),
    ("the model as a variable", with_env({"name": "MODEL_NAME", "value": "x"}), "write the model there"),
    ("a product that is no label", endpoint(gpu={"product": "a b"}), "gpu.product is the value of a node's label"),
    (
        "a product of a vendor without labels",
        endpoint(gpu={"resource": "example.com/npu", "product": "X"}),
        "choose nodes with other devices by pod.nodeSelector",
    ),
    ("two caches", endpoint(cache={"claimName": "a", "size": "1Gi"}), "set only one of these fields"),
    ("a class without a size", endpoint(cache={"storageClassName": "a"}), "give cache.size as well"),
    ("an invalid size", endpoint(cache={"size": "big"}), "a size is a number with a unit"),
    ("a negative size", endpoint(cache={"size": "-1Gi"}), "a size is a number with a unit"),
    ("a claim with capitals", endpoint(cache={"claimName": "A"}), "the name of an object has lower-case letters"),
    ("an invalid access", endpoint(cache={"size": "1Gi", "accessModes": ["Any"]}), "Unsupported value"),
    ("an invalid policy", endpoint(cache={"size": "1Gi", "deletionPolicy": "Drop"}), "Unsupported value"),
    ("an adapter without a source", endpoint(adapters=[{"name": "a"}]), "source: Required value"),
    (
        "an adapter from a bucket",
        with_adapters({"name": "a", "source": "s3://bucket/a"}),
        "does not read adapters from buckets",
    ),
    ("an adapter with a space", with_adapters({"name": "a b", "source": "a/b"}), "an adapter's name has letters"),
    ("the same adapter twice", with_adapters(ADAPTER, ADAPTER), "Duplicate value"),
    (
        "the model's name for an adapter",
        with_adapters({"name": "m", "source": "a/b"}, model="m"),
        "of the model itself",
    ),
    (
        "adapters from two places",
        with_adapters(ADAPTER, env=[{"name": "LORA_MODULES", "value": "[]"}]),
        "use either spec.adapters or these variables",
    ),
    ("hosts without a Gateway", endpoint(route={"hostnames": ["a.example.com"]}), "give route.parentRefs as well"),
    (
        "a host with a scheme",
        endpoint(route={"parentRefs": [{"name": "a"}], "hostnames": ["https://a"]}),
        "a host is written like llm.example.com",
    ),
    ("a Gateway without a name", endpoint(route={"parentRefs": [{"namespace": "a"}]}), "name: Required value"),
    ("suspended perhaps", endpoint(suspend="perhaps"), "must be of type boolean"),
    ("a label of ours", endpoint(pod={"labels": {"forebay.dev/endpoint": "x"}}), "are reserved for the operator"),
    (
        "a label of everyone's",
        endpoint(pod={"labels": {"app.kubernetes.io/name": "x"}}),
        "are reserved for the operator",
    ),
    (
        "an annotation of ours",
        endpoint(pod={"annotations": {"forebay.dev/revision": "x"}}),
        "are reserved for the operator",
    ),
    ("a label with a space", endpoint(pod={"labels": {"a b": "x"}}), "a name has letters, digits"),
    ("a label's value with a space", endpoint(pod={"labels": {"a": "x y"}}), "a label's value has letters"),
    (
        "a volume of the node",
        with_volume({"name": "a", "hostPath": {"path": "/"}}),
        'unknown field "spec.pod.volumes[0].hostPath"',
    ),
    ("a volume of no type", with_volume({"name": "a"}), "should have at least 2 properties"),
    ("a volume of two types", with_volume({"name": "a", "emptyDir": {}, "csi": {"driver": "d"}}), "at most 2"),
    ("a volume with our name", with_volume({"name": "forebay-tmp", "emptyDir": {}}), "the server's own volumes; use"),
    ("a volume with a dot", with_volume({"name": "a.b", "emptyDir": {}}), "a volume's name has lower-case letters"),
    (
        "an invalid size of memory",
        with_volume({"name": "a", "emptyDir": {"sizeLimit": "lots"}}),
        "an amount is a number with a unit, such as 10Gi",
    ),
    (
        "a mount of nothing",
        endpoint(pod={"volumeMounts": [{"name": "a", "mountPath": "/a"}]}),
        "the name of a volume in pod.volumes",
    ),
    ("a mount that climbs", with_mount("/a/../b"), "a mountPath is absolute"),
    ("a relative mount", with_mount("a"), "a mountPath is absolute"),
    ("a mount over everything", with_mount("/"), "a mountPath is absolute"),
    ("a mount over the keys", with_mount("/run/forebay/keys"), "mount elsewhere, such as at /data"),
    ("a mount above the keys", with_mount("/var/run"), "mount elsewhere, such as at /data"),
    ("a mount over the model", with_mount("/model"), "mount elsewhere, such as at /data"),
    ("an invalid strategy", endpoint(rollout={"strategy": "Fast"}), "Unsupported value"),
    ("an invalid upgrade mode", endpoint(upgrade={"mode": "Never"}), "Unsupported value"),
    ("an invalid time", endpoint(rollout={"drainTimeout": "soon"}), "written like 90s, 5m or 1h30m"),
    ("an empty time", endpoint(rollout={"startupTimeout": ""}), "written like 90s, 5m or 1h30m"),
    ("a drain without end", endpoint(rollout={"drainTimeout": "25h"}), "rollout.drainTimeout is at most 24h"),
    ("a drain of a million minutes", endpoint(rollout={"drainTimeout": "1000000m"}), "written like 90s"),
    ("no time to start", endpoint(rollout={"startupTimeout": "9s"}), "rollout.startupTimeout is from 10s to 24h"),
    (
        "an invalid source of variables",
        endpoint(envFrom=[{"prefix": "A_"}]),
        "give either secretRef or configMapRef",
    ),
]


@pytest.mark.parametrize(("manifest", "sentence"), [row[1:] for row in INVALID], ids=[row[0] for row in INVALID])
def test_invalid_specs_are_rejected_with_a_message(kubectl: Kubectl, manifest: Manifest, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        kubectl.apply(manifest, "--validate=strict")
    assert sentence in str(refused.value)
    assert kubectl.list("iep") == []


SEEN_LATER = {
    "a field that does not exist": "it is ignored",
    "a variable name with a dash": "Kubernetes takes it, and EnvRecognized doubts it",
    "the same variable twice": "the last one counts",
    "an adapter with a space": "the server takes it",
    "the same adapter twice": "the server says so",
    "a Secret with capitals": "SecretMissing",
    "a claim with capitals": "PVCMissing",
    "an image with a space": "InvalidImageName",
    "a host with a scheme": "RouteReady: the schema of HTTPRoutes refuses it",
    "a Gateway without a name": "RouteReady: the schema of HTTPRoutes refuses it",
}
"""Specs that only the schema rejects, and the outcome without it."""


def read(manifest: Manifest) -> Endpoint | None:
    """The endpoint as the operator parses it, or None for InvalidSpec."""
    metadata = {"namespace": "default", "uid": "u", **manifest["metadata"]}
    try:
        return parse_endpoint({**manifest, "metadata": metadata})
    except InvalidSpec:
        return None


READ = [row for row in INVALID if row[0] not in SEEN_LATER and read(row[1])]


def test_the_operator_itself_rejects_most_invalid_specs() -> None:
    assert len(READ) < len(INVALID) / 4


def try_children(kubectl: Kubectl, taken: Endpoint) -> None:
    """Show the children to the API server."""
    settings = Settings(
        "gpu", "cpu", overlay_image="s", cluster_cidrs=("10.0.0.0/8", "fd00::/8"), allowed_cidrs=("10.1.0.0/16",)
    )
    children = [build_deployment(taken, settings), build_service(taken), *build_unwatched(taken, settings)]
    shown = json.dumps({"apiVersion": "v1", "kind": "List", "items": children})
    kubectl.run("create", "--dry-run=server", "-f", "-", stdin=shown)


@pytest.mark.parametrize("manifest", [row[1] for row in READ], ids=[row[0] for row in READ])
def test_invalid_specs_that_the_operator_accepts_fail_at_the_children(
    control_plane: Kubectl, manifest: Manifest
) -> None:
    """Such a spec has no other effect under an older schema."""
    taken, harmless = read(manifest), read(endpoint())
    assert taken
    assert harmless
    with pytest.raises(Refused):
        try_children(control_plane, taken)
    try_children(control_plane, harmless)


@pytest.mark.parametrize("name", sorted(REFUSED_VARIABLES))
def test_the_schema_rejects_every_variable_that_the_operator_rejects(kubectl: Kubectl, name: str) -> None:
    with pytest.raises(Refused, match=r"spec\.env\[0\]"):
        kubectl.apply(with_env({"name": name, "value": "1"}))


@pytest.mark.parametrize("name", sorted({*REFUSED_FLAGS, "MODEL"}))
def test_the_schema_rejects_every_flag_that_the_server_refuses(kubectl: Kubectl, name: str) -> None:
    option = f"--{name.lower().replace('_', '-')}"
    for argument in (option, f"{option}=1", f"{option} 1", option.replace("-", "_").replace("__", "--", 1)):
        with pytest.raises(Refused, match=r"spec\.args\[1\]"):
            kubectl.apply(endpoint(args=["--seed=1", argument]))
    assert kubectl.apply(endpoint(args=["--seed=1", f"{option}x", option.removeprefix("--")]))


@pytest.mark.parametrize(
    "model",
    [
        "gpt2",
        "hf://gpt2",
        "hf://mistralai/Mistral-7B-Instruct-v0.2",
        "hf://mistralai/Mistral-7B-Instruct-v0.2:607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "hf://mistralai/Mistral-7B-Instruct-v0.2@refs/pr/3",
        "mistralai/Mistral-7B-Instruct-v0.2",
        "oci://host:5000/a/b:c",
        "oci://a/b@sha256:0",
        "pvc://claim",
        "pvc://claim/models--a--b/snapshots/0",
        "s3://bucket/a/b/",
        "gs://bucket/a",
        "/models/a",
    ],
)
def test_models_from_every_source_are_accepted(kubectl: Kubectl, model: str) -> None:
    assert kubectl.apply(endpoint(model=model))["spec"]["model"] == model


@pytest.mark.parametrize(
    "spec",
    [
        {"resources": {"requests": {"cpu": 1, "memory": "1.5Gi"}, "limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}}},
        {"resources": {"limits": {"example.com/nic": 2, "ephemeral-storage": "1e9"}}},
        {"gpu": {"resource": "amd.com/gpu", "product": "AMD_Instinct_MI300X_OAM"}, "auth": {"secretName": "my.keys-1"}},
        {"service": {"annotations": {"plain": "x", "service.example.com/some_Name": ""}}},
        {"cache": {"size": "1.5Ti", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}},
        {"cache": {"claimName": "mine"}},
        {"route": {"parentRefs": [{"name": "a", "namespace": "b", "port": 443}], "hostnames": ["*.example.com"]}},
        {"rollout": {"strategy": "Replace", "drainTimeout": "1h30m", "startupTimeout": "24h"}},
        {"upgrade": {"mode": "Manual"}},
        {"adapters": [ADAPTER, {"name": "b", "source": "pvc://claim/b"}, {"name": "c", "source": "hf://a/b"}]},
        {"args": ["--max-model-len=8192", "--seed 1", "--served-model-name", "a", "b", '--hf-overrides={"a": 1}']},
        {"pod": EVERYTHING},
        {"env": [{"name": name, "value": "9"} for name in sorted(LIMIT_VARIABLES)]},
        {"env": [{"name": "LD_PRELOAD", "value": "/opt/own.so"}, {"name": "PYTHONPATH", "value": "/opt"}]},
    ],
)
def test_valid_specs_are_accepted(kubectl: Kubectl, spec: Manifest) -> None:
    taken = kubectl.apply(endpoint(**spec), "--validate=strict")["spec"]
    for field, value in spec.items():
        assert taken[field] == value if isinstance(value, list) else taken[field].items() >= value.items()


@pytest.mark.parametrize(
    "spec",
    [
        {"revision": "v1.0"},
        {"revision": ""},
        {"revision": "", "model": "/models/a"},
        {"revision": "v1", "model": "hf://a/b:v1"},
        {"revision": "v1", "model": "hf://a/b@v1", "args": ["--tokenizer-revision=v2", "--lora-modules=a=b"]},
        {"env": [{"name": "MODEL_REVISION", "value": "v1"}], "args": ["--revision=v2"]},
    ],
)
def test_a_revision_is_accepted_where_nothing_contradicts_it(kubectl: Kubectl, spec: Manifest) -> None:
    assert kubectl.apply(endpoint(**spec), "--validate=strict")["spec"].items() >= spec.items()


def test_omitted_fields_get_their_defaults(kubectl: Kubectl) -> None:
    """`replicas`, `image`, `gpu.product` and `auth.secretName` have no default in the schema: the operator chooses."""
    spec = kubectl.apply(endpoint(gpu={"resource": "amd.com/gpu"}))["spec"]
    assert spec == {
        "model": "org/model",
        "gpu": {"count": 1, "resource": "amd.com/gpu"},
        "resources": {},
        "auth": {"mode": "APIKey"},
        "cache": {"accessModes": ["ReadWriteOnce"], "deletionPolicy": "Retain"},
        "service": {"type": "ClusterIP", "port": 80},
        "route": {},
        "networkPolicy": {"create": True},
        "suspend": False,
        "pod": {},
        "rollout": {"strategy": "Surge", "drainTimeout": "5m", "startupTimeout": "30m"},
    }
