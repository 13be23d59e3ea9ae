"""The API server refuses what cannot work, with a sentence that says what to do, and completes what was left out."""

import pytest

from forebay_operator.types import REFUSED_VARIABLES
from tests.endpoints import endpoint
from tests.kubectl import Kubectl, Manifest, Refused, condition


def with_env(*variables: Manifest) -> Manifest:
    return endpoint(env=list(variables))


INVALID = [
    ("a name of 41 characters", endpoint("a" * 41), "at most 40 characters"),
    ("a name with a dot", endpoint("a.b"), "lower-case letters, digits and '-'"),
    ("a name that begins with a digit", endpoint("1a"), "beginning with a letter"),
    ("no spec", {**endpoint(), "spec": None}, "spec: Required value"),
    ("no model", {**endpoint(), "spec": {}}, "spec.model: Required value"),
    ("an empty model", endpoint(model=""), "must be a Hugging Face id"),
    ("a model with a space", endpoint(model="my model"), "must be a Hugging Face id"),
    ("a model with two slashes", endpoint(model="a/b/c"), "must be a Hugging Face id"),
    ("an image without a name", endpoint(model="oci://"), "must be a Hugging Face id"),
    ("a path that climbs", endpoint(model="/models/../../etc/"), "an absolute path in the server image"),
    ("another scheme", endpoint(model="https://hub/model"), "must be a Hugging Face id"),
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
        "say how many GPUs in spec.gpu.count",
    ),
    (
        "a request above its limit",
        endpoint(resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}),
        "a request must not be larger than the limit",
    ),
    ("an amount that is none", endpoint(resources={"limits": {"memory": "lots"}}), "an amount is a number"),
    ("a negative amount", endpoint(resources={"limits": {"cpu": -1}}), "an amount is a number that is not negative"),
    ("a negative amount as text", endpoint(resources={"requests": {"cpu": "-1m"}}), "that is not negative"),
    ("a resource of nobody's", endpoint(resources={"limits": {"foo": 1}}), "a resource is cpu, memory"),
    ("a resource without a name", endpoint(resources={"requests": {"a.b/": 1}}), "a device's name with its domain"),
    ("a Secret with capitals", endpoint(auth={"secretName": "Keys"}), "the name of a Secret has lower-case letters"),
    ("an annotation with a space", endpoint(service={"annotations": {"a b": "c"}}), "the name of an annotation"),
    ("an unknown auth mode", endpoint(auth={"mode": "Basic"}), 'supported values: "APIKey", "None"'),
    ("a Secret without keys in use", endpoint(auth={"mode": "None", "secretName": "s"}), "takes no auth.secretName"),
    ("a port that is none", endpoint(service={"port": 70000}), "less than or equal to 65535"),
    ("a Service type that is none", endpoint(service={"type": "Internal"}), "Unsupported value"),
    ("an image with a space", endpoint(image="my image"), "an image's name has no spaces"),
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
    (
        "a source of variables that is none",
        endpoint(envFrom=[{"prefix": "A_"}]),
        "give either secretRef or configMapRef",
    ),
]


@pytest.mark.parametrize(("manifest", "sentence"), [row[1:] for row in INVALID], ids=[row[0] for row in INVALID])
def test_what_cannot_work_is_refused_with_a_sentence(kubectl: Kubectl, manifest: Manifest, sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        kubectl.apply(manifest, "--validate=strict")
    assert sentence in str(refused.value)
    assert kubectl.list("iep") == []


@pytest.mark.parametrize("name", sorted(REFUSED_VARIABLES))
def test_the_schema_refuses_every_variable_that_the_operator_refuses(kubectl: Kubectl, name: str) -> None:
    with pytest.raises(Refused, match=r"spec\.env\[0\]"):
        kubectl.apply(with_env({"name": name, "value": "1"}))


@pytest.mark.parametrize(
    "model", ["gpt2", "mistralai/Mistral-7B-Instruct-v0.2", "oci://host:5000/a/b:c", "oci://a/b@sha256:0", "/models/a"]
)
def test_models_from_every_source_are_taken(kubectl: Kubectl, model: str) -> None:
    assert kubectl.apply(endpoint(model=model))["spec"]["model"] == model


@pytest.mark.parametrize(
    "spec",
    [
        {"resources": {"requests": {"cpu": 1, "memory": "1.5Gi"}, "limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}}},
        {"resources": {"limits": {"example.com/nic": 2, "ephemeral-storage": "1e9"}}},
        {"gpu": {"resource": "amd.com/gpu"}, "auth": {"secretName": "my.keys-1"}},
        {"service": {"annotations": {"plain": "x", "service.example.com/some_Name": ""}}},
    ],
)
def test_what_can_work_is_taken(kubectl: Kubectl, spec: Manifest) -> None:
    taken = kubectl.apply(endpoint(**spec))["spec"]
    assert all(taken[field].items() >= fields.items() for field, fields in spec.items())


def test_what_is_left_out_gets_its_default(kubectl: Kubectl) -> None:
    spec = kubectl.apply(endpoint(gpu={"resource": "amd.com/gpu"}))["spec"]
    assert spec == {
        "model": "org/model",
        "image": "",
        "gpu": {"count": 1, "resource": "amd.com/gpu"},
        "resources": {},
        "replicas": 1,
        "auth": {"mode": "APIKey", "secretName": ""},
        "service": {"type": "ClusterIP", "port": 80},
    }


def test_an_endpoint_that_no_operator_has_seen_is_not_ready(kubectl: Kubectl) -> None:
    kubectl.apply(endpoint())
    seen = kubectl.get("iep", "one")
    assert seen is not None
    assert seen["status"]["observedGeneration"] == -1
    ready = condition(seen, "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", "Pending")


def test_the_crd_is_small_enough_for_kubectl_apply(control_plane: Kubectl) -> None:
    crd = control_plane.get("crd", "inferenceendpoints.forebay.dev")
    assert crd is not None
    last_applied = crd["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert len(last_applied) < 200_000
