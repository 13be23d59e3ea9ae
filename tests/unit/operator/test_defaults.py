"""Defaults for all endpoints: what an endpoint inherits, what it overrides, and what it keeps."""

import json
from dataclasses import replace
from typing import Any

import pytest

from forebay_operator.__main__ import build_parser
from forebay_operator.app import build_settings
from forebay_operator.resources import build_claim, build_deployment
from forebay_operator.resources.kept_defaults import choose_defaults
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, InvalidSpec, complete_endpoint, parse_defaults, parse_endpoint
from forebay_operator.spec.defaults import SAME_FLAG
from forebay_server.config.variable_names import ALIASES
from tests.kubectl import Manifest
from tests.unit.operator.builders import endpoint_manifest
from tests.unit.operator.reconciling import SETTINGS


def complete(defaults: Manifest, **spec: Any) -> Endpoint:
    return complete_endpoint(parse_endpoint(endpoint_manifest(**spec)), parse_defaults(json.dumps(defaults)))


def test_an_endpoint_overrides_variables_by_name_and_sources_by_order() -> None:
    defaults = {
        "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "DTYPE", "value": "half"}],
        "envFrom": [{"secretRef": {"name": "hub"}}],
    }
    own: dict[str, Any] = {"env": [{"name": "DTYPE", "value": "auto"}], "envFrom": [{"secretRef": {"name": "own"}}]}
    found = complete(defaults, **own)
    assert [(each["name"], each["value"]) for each in found.env] == [("HF_HUB_OFFLINE", "1"), ("DTYPE", "auto")]
    assert [each["secretRef"]["name"] for each in found.env_from] == ["hub", "own"]
    assert found.own_env == tuple(own["env"]), "only these can get a warning"


GPU, CPU = {"cpu": "2", "memory": "8Gi"}, {"cpu": "250m", "memory": "2Gi"}


@pytest.mark.parametrize(
    ("spec", "resources"),
    [
        ({}, {"requests": {"cpu": "2", "memory": "8Gi"}}),
        ({"gpu": {"count": 4}}, {"requests": {"cpu": "8", "memory": "32Gi"}}),
        ({"gpu": {"count": 0}}, {"requests": {"cpu": "250m", "memory": "2Gi"}}),
        ({"resources": {"requests": {"cpu": "1"}}}, {"requests": {"cpu": "1", "memory": "8Gi"}}),
        (
            {"resources": {"limits": {"memory": "4Gi"}}},  # a default request could be above the limit
            {"requests": {"cpu": "2"}, "limits": {"memory": "4Gi"}},
        ),
    ],
)
def test_an_endpoint_overrides_resources_by_name(spec: Manifest, resources: Manifest) -> None:
    assert complete({"resources": {"gpu": {"requests": GPU}, "cpu": {"requests": CPU}}}, **spec).resources == resources


@pytest.mark.parametrize(
    ("own", "size", "claim"),
    [
        ({}, "100Gi", ""),
        ({"size": "5Gi"}, "5Gi", ""),
        ({"claimName": "own"}, "", "own"),
        ({"size": "0"}, "", ""),
    ],
)
def test_an_endpoint_overrides_the_cache(own: Manifest, size: str, claim: str) -> None:
    found = complete({"cache": {"size": "100Gi", "storageClassName": "fast"}}, cache=own)
    assert (found.cache.size, found.cache.claim_name) == (size, claim)
    claimed = build_claim(found)
    assert (claimed or {}).get("spec", {}).get("storageClassName") == ("fast" if size == "100Gi" else None)


def test_pull_secrets_are_added_to_those_of_the_endpoint() -> None:
    defaults = {"imagePullSecrets": [{"name": "company"}, {"name": "own"}]}
    found = complete(defaults, pod={"imagePullSecrets": [{"name": "own"}]})
    assert found.pod.image_pull_secrets == ({"name": "own"}, {"name": "company"})


def test_the_ca_bundle_is_mounted_and_named_in_variables() -> None:
    defaults = {"caBundle": {"configMap": "company-ca", "key": "bundle.pem"}}
    found = complete(defaults, env=[{"name": "REQUESTS_CA_BUNDLE", "value": "/own.pem"}])
    pod = build_deployment(found, SETTINGS)["spec"]["template"]["spec"]
    source = {"name": "company-ca", "items": [{"key": "bundle.pem", "path": "ca.crt"}]}
    assert {"name": "forebay-ca", "configMap": source} in pod["volumes"]
    (container,) = pod["containers"]
    assert {"name": "forebay-ca", "mountPath": "/etc/forebay/ca", "readOnly": True} in container["volumeMounts"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert (values["SSL_CERT_FILE"], values["REQUESTS_CA_BUNDLE"]) == ("/etc/forebay/ca/ca.crt", "/own.pem")


@pytest.mark.parametrize(
    ("defaults", "problem"),
    [
        ("[", "server: not JSON"),
        ([], "server: not an object"),
        ({"env": {"a": "b"}}, "server.env: {'a': 'b'} is not a list"),
        ({"env": [{"value": "1"}]}, "server.env[0]"),
        ({"env": [{"name": "A", "value": 1}]}, "its value is not text"),
        (
            {"env": [{"name": "MODEL_NAME", "value": "a"}]},
            "server.env: MODEL_NAME is refused: spec.model sets it",
        ),
        ({"env": [{"name": "FOREBAY_AUTH", "value": "a"}]}, "server.env: FOREBAY_AUTH is refused"),
        ({"env": [{"name": "MAX_CONCURRENCY", "value": "1"}]}, "it belongs to one endpoint"),
        ({"env": [{"name": "TENSOR_PARALLEL_SIZE", "value": "2"}]}, "each endpoint sets it by spec.gpu.count"),
        ({"env": [{"name": "ENABLE_SLEEP_MODE", "value": "true"}]}, "each endpoint sets it by spec.scaling.idle"),
        (
            {"env": [{"name": "VLLM_STARTUP_TIMEOUT", "value": "60"}]},
            "each endpoint sets it by spec.rollout.startupTimeout",
        ),
        ({"resources": {"gpu": {"request": {"cpu": "1"}}}}, "server.resources.gpu.request"),
        ({"resources": {"cpu": {"requests": {"cpu": "many"}}}}, "'many' is not a quantity"),
        ({"cache": {"size": "1Gi", "claimName": "a"}}, "server.cache: claimName names an existing claim"),
        ({"cache": {"accessModes": ["Any"]}}, "server.cache.accessModes[0]: 'Any' is not one of"),
    ],
)
def test_invalid_defaults_are_refused_with_the_chart_value(defaults: object, problem: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_defaults(defaults if isinstance(defaults, str) else json.dumps(defaults))
    assert problem in str(refused.value)


def test_a_default_is_below_another_name_of_the_same_flag_and_below_the_revision() -> None:
    env = [{"name": name, "value": "d"} for name in ("MODEL_REVISION", "REVISION", "TOKENIZER_NAME", "DTYPE")]

    def names(**spec: Any) -> set[str]:
        found = complete_endpoint(parse_endpoint(endpoint_manifest(**spec)), parse_defaults(json.dumps({"env": env})))
        return {variable["name"] for variable in found.env if variable["value"] == "d"}

    assert names() == {"MODEL_REVISION", "REVISION", "TOKENIZER_NAME", "DTYPE"}
    assert names(revision="v1") == names(model="hf://org/model@v1") == {"TOKENIZER_NAME", "DTYPE"}
    assert names(env=[{"name": "REVISION", "value": "own"}, {"name": "TOKENIZER", "value": "own"}]) == {"DTYPE"}


def test_the_names_of_the_same_flag_are_those_of_the_server() -> None:
    assert {name: flag for name, flag in ALIASES.items() if name in SAME_FLAG} == SAME_FLAG
    refused = ALIASES.keys() - SAME_FLAG.keys()
    for name in refused:
        with pytest.raises(InvalidSpec, match="is refused"):
            parse_defaults(json.dumps({"env": [{"name": name, "value": "a"}]}))


def with_defaults(**defaults: Any) -> Settings:
    return replace(SETTINGS, defaults=parse_defaults(json.dumps(defaults)))


def deploy(settings: Settings, before: Manifest | None, **spec: Any) -> Manifest:
    """The Deployment that an operator with these settings makes of the endpoint and its Deployment."""
    endpoint = parse_endpoint(endpoint_manifest(**spec))
    return dict(build_deployment(complete_endpoint(endpoint, choose_defaults(endpoint, settings, before)), settings))


def read_requests(deployment: Manifest) -> object:
    return deployment["spec"]["template"]["spec"]["containers"][0]["resources"].get("requests", {}).get("memory")


def test_an_existing_endpoint_keeps_its_resources_until_it_changes() -> None:
    first, second = (with_defaults(resources={"gpu": {"requests": {"memory": size}}}) for size in ("8Gi", "16Gi"))
    bare = deploy(SETTINGS, None)
    assert deploy(first, bare) == bare, "an upgrade of the chart restarts nothing"
    assert deploy(first, bare, replicas=3)["spec"]["template"] == bare["spec"]["template"]
    changed = deploy(first, bare, env=[{"name": "DTYPE", "value": "half"}])
    assert read_requests(changed) == "8Gi"
    assert deploy(second, changed, env=[{"name": "DTYPE", "value": "half"}]) == changed
    assert read_requests(deploy(second, changed)) == "16Gi"
    assert read_requests(deploy(second, None)) == "16Gi", "a new endpoint has the current defaults"
    assert read_requests(deploy(SETTINGS, changed, env=[{"name": "DTYPE", "value": "half"}])) == "8Gi"


def test_a_changed_default_never_changes_an_existing_claim() -> None:
    """A claim's storage class cannot change, and storage may refuse a smaller size."""
    first = with_defaults(cache={"size": "10Gi", "storageClassName": "slow"})
    second = with_defaults(cache={"size": "5Gi", "storageClassName": "fast"})
    made = deploy(first, None)
    for spec in ({}, {"env": [{"name": "DTYPE", "value": "half"}]}):
        endpoint = parse_endpoint(endpoint_manifest(**spec))
        found = complete_endpoint(endpoint, choose_defaults(endpoint, second, made)).cache
        assert (found.size, found.storage_class_name) == ("10Gi", "slow")
    own = parse_endpoint(endpoint_manifest(cache={"size": "20Gi"}))
    assert complete_endpoint(own, choose_defaults(own, second, made)).cache.size == "20Gi"


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], {"runAsUser": 2000, "runAsGroup": 0, "fsGroup": 2000}),
        (['--pod-ids={"runAsGroup": 0}'], {"runAsGroup": 0}),
        (["--pod-ids={}"], {}),
    ],
)
def test_the_ids_of_pods_can_be_left_to_the_cluster(ids: list[str], expected: Manifest) -> None:
    settings = build_settings(build_parser().parse_args(ids), 35)
    context = deploy(settings, None)["spec"]["template"]["spec"]["securityContext"]
    assert {
        name: value for name, value in context.items() if name in ("runAsUser", "runAsGroup", "fsGroup")
    } == expected
    assert context["runAsNonRoot"] is True


@pytest.mark.parametrize("ids", ["[]", '{"runAsUser": 0}', '{"runAsUser": "a"}', '{"privileged": 1}', "{"])
def test_invalid_ids_end_the_operator(ids: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args([f"--pod-ids={ids}"])
    assert "argument --pod-ids" in capsys.readouterr().err
