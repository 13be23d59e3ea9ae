"""Parsing of endpoints, and rejection of invalid ones even if the schema let them pass."""

from typing import Any

import pytest

from forebay_operator.spec import Auth, Gpu, InvalidSpec, Source, parse_endpoint
from forebay_operator.spec.endpoint import read_duration
from tests.unit.operator.builders import endpoint_manifest


def test_omitted_fields_get_their_defaults() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    assert endpoint.gpu == Gpu(1, "nvidia.com/gpu")
    assert endpoint.auth == Auth("APIKey", "")
    assert (endpoint.replicas, endpoint.service.port) == (1, 80)
    assert endpoint.url == "http://one.team.svc/v2/one/openai/v1"


@pytest.mark.parametrize(
    ("model", "parsed", "served"),
    [
        ("org/model", Source("hub", "org/model"), "org/model"),
        ("hf://org/model", Source("hub", "org/model"), "org/model"),
        ("hf://gpt2", Source("hub", "gpt2"), "gpt2"),
        ("hf://org/model:v1.0", Source("hub", "org/model", revision="v1.0"), "org/model"),
        ("hf://org/model@refs/pr/3", Source("hub", "org/model", revision="refs/pr/3"), "org/model"),
        ("oci://host/model:1", Source("image", "host/model:1"), "one"),
        ("/models/a", Source("path", "/models/a"), "one"),
        ("pvc://weights", Source("claim", "weights"), "one"),
        ("pvc://weights/a/b", Source("claim", "weights", "a/b"), "one"),
        ("s3://bucket/a/b", Source("bucket", "s3://bucket/a/b"), "one"),
        ("gs://bucket/a", Source("bucket", "gs://bucket/a"), "one"),
    ],
)
def test_models(model: str, parsed: Source, served: str) -> None:
    endpoint = parse_endpoint(endpoint_manifest(model=model))
    assert (endpoint.model, endpoint.served_names) == (parsed, (served,))


@pytest.mark.parametrize(
    ("env", "served"),
    [
        ({"OPENAI_SERVED_MODEL_NAME_OVERRIDE": "my-model"}, ("my-model",)),
        ({"OPENAI_SERVED_MODEL_NAME_OVERRIDE": " My Model, v2 "}, ("My Model, v2",)),
        ({"OPENAI_SERVED_MODEL_NAME_OVERRIDE": "None", "SERVED_MODEL_NAME": "a"}, ("org/model",)),
        ({"SERVED_MODEL_NAME": "a,b c"}, ("a", "b", "c")),
        ({"SERVED_MODEL_NAME": "a", "OPENAI_SERVED_MODEL_NAME_OVERRIDE": "b"}, ("b",)),
        ({"SERVED_MODEL_NAME": "a", "OPENAI_SERVED_MODEL_NAME_OVERRIDE": " "}, ("a",)),
        ({"SERVED_MODEL_NAME": '["a", "b c"]'}, ("a", "b c")),
        ({"SERVED_MODEL_NAME": '["a", 5]'}, ("a", "5")),
        ({"SERVED_MODEL_NAME": "None"}, ("org/model",)),
        ({"SERVED_MODEL_NAME": "'b c', d"}, ("b c", "d")),
        ({"SERVED_MODEL_NAME": "[]"}, ("org/model",)),
        ({"SERVED_MODEL_NAME": "a", "VLLM_EXTRA_ARGS": "--served-model-name b 'c d' --seed 1"}, ("b", "c d")),
        ({"VLLM_EXTRA_ARGS": "--seed 1 --served_model_name=b x"}, ("b",)),
        ({"VLLM_EXTRA_ARGS": "--served-model-name 'b"}, ("org/model",)),
        ({"VLLM_EXTRA_ARGS": "--seed 1"}, ("org/model",)),
        ({"SERVED_MODEL_NAME": "['a']"}, ("org/model",)),
        ({"MAX_MODEL_LEN": "64"}, ("org/model",)),
    ],
)
def test_the_served_names_can_be_set(env: dict[str, str], served: tuple[str, ...]) -> None:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    assert parse_endpoint(endpoint_manifest(env=variables)).served_names == served


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ('[{"name": "a", "path": "org/a"}, {"name": "b", "path": "/b"}]', ("a", "b")),
        ('{"name": "a", "path": "org/a"}', ("a",)),
        ("a=org/a b=/volume/b", ("a", "b")),
        ('["a=org/a"]', ("a",)),
        ("[]", ()),
        (" ", ()),
        ('[{"name"', ()),
        ('[{"name": 5}, 7, null]', ()),
        ("no-path", ()),
    ],
)
def test_adapters_in_env_are_served_names_too(value: str, names: tuple[str, ...]) -> None:
    env = [{"name": "LORA_MODULES", "value": value}]
    assert parse_endpoint(endpoint_manifest(env=env)).served_names == ("org/model", *names)


SECRET = {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        ({}, True),
        ({"env": [{"name": "SERVED_MODEL_NAME", "value": "a"}]}, True),
        ({"env": [{"name": "SERVED_MODEL_NAME", **SECRET}]}, False),
        ({"env": [{"name": "OPENAI_SERVED_MODEL_NAME_OVERRIDE", **SECRET}]}, False),
        ({"env": [{"name": "SERVED_MODEL_NAME", "value": "$(TIER)-model"}]}, False),
        ({"env": [{"name": "LORA_MODULES", **SECRET}]}, False),
        ({"env": [{"name": "VLLM_EXTRA_ARGS", **SECRET}]}, False),
        ({"env": [{"name": "VLLM_CONFIG_FILE", "value": "/config/vllm.yaml"}]}, False),
        ({"env": [{"name": "VLLM_EXTRA_ARGS", "value": "--served-model-name a --model-impl=vllm --seed 1"}]}, True),
        ({"env": [{"name": "VLLM_EXTRA_ARGS", "value": "--lora_modules a=org/a"}]}, False),
        ({"env": [{"name": "VLLM_EXTRA_ARGS", "value": "--served a"}]}, False),
        ({"env": [{"name": "VLLM_EXTRA_ARGS", "value": "--config=/vllm.yaml"}]}, False),
        ({"env": [{"name": "VLLM_EXTRA_ARGS", "value": "--model org/other"}]}, False),
        ({"env": [{"name": "HF_TOKEN", **SECRET}]}, True),
        ({"args": ["--served-model-name a", "--config-format=hf", "--seed 1"]}, True),
        ({"args": ["--lora-modules", "a=org/a"]}, False),
        ({"args": ["--served a"]}, False),
        ({"args": ["--seed 1 --config /vllm.yaml"]}, False),
        ({"envFrom": [{"secretRef": {"name": "settings"}}]}, False),
    ],
)
def test_names_of_models_may_be_hidden_from_the_operator(spec: dict[str, Any], known: bool) -> None:
    assert parse_endpoint(endpoint_manifest(**spec)).knows_all_names is known


@pytest.mark.parametrize(
    ("args", "served"),
    [
        (["--served-model-name=mine"], ("mine", "b")),
        (["--served-model-name", "a", "c", "--seed", "1"], ("a", "c", "b")),
        (["--served_model_name a 'b c'"], ("a", "b c", "b")),
        (["--lora-modules", "sql=org/sql", '{"name": "py", "path": "/py"}'], ("from-env", "sql", "py")),
        (["--lora-modules={broken"], ("from-env", "b")),
        (["--seed=1"], ("from-env", "b")),
    ],
)
def test_names_in_args_override_those_of_all_variables(args: list[str], served: tuple[str, ...]) -> None:
    variables = {
        "SERVED_MODEL_NAME": "hidden",
        "LORA_MODULES": "a=org/a",
        "VLLM_EXTRA_ARGS": "--served-model-name from-env --lora-modules b=org/b",
    }
    env = [{"name": name, "value": value} for name, value in variables.items()]
    assert parse_endpoint(endpoint_manifest(args=args, env=env)).served_names == served


@pytest.mark.parametrize(
    ("spec", "revision"),
    [
        ({}, ""),
        ({"revision": "v1"}, "v1"),
        ({"model": "hf://org/model:v1"}, "v1"),
        ({"model": "hf://org/model:v1", "revision": "v1"}, "v1"),
        ({"model": "hf://org/model@v1", "revision": ""}, "v1"),
        ({"env": [{"name": "MODEL_REVISION", "value": "v1"}]}, ""),
    ],
)
def test_the_revision_comes_from_its_field_or_from_the_model(spec: dict[str, Any], revision: str) -> None:
    assert parse_endpoint(endpoint_manifest(**spec)).model_revision == revision


def test_a_served_name_from_a_secret_is_unknown_to_the_operator() -> None:
    override = {"name": "SERVED_MODEL_NAME", **SECRET}
    adapters = {"name": "LORA_MODULES", "value": "a=org/a"}
    assert parse_endpoint(endpoint_manifest(env=[override, adapters])).served_names == ()


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"model": None}, "spec.model: missing"),
        ({"model": "a b"}, "spec.model: 'a b' is neither"),
        (
            {"env": [{"name": "VLLM_API_KEY", "value": "x"}]},
            "spec.env: VLLM_API_KEY is refused: keys come from spec.auth",
        ),
        ({"env": [{"name": "FOREBAY_AUTH", "value": "None"}]}, "FOREBAY_AUTH is refused"),
        ({"auth": {"mode": "None", "secretName": "s"}}, "spec.auth: secretName needs mode APIKey"),
        ({"auth": {"secretName": "/model"}}, "spec.auth.secretName: '/model' can't be the name of a Secret"),
        ({"model": "pvc://claim/../etc"}, "spec.model: 'pvc://claim/../etc' is neither"),
        ({"model": "s3://"}, "spec.model: 's3://' is neither"),
        ({"model": "hf://"}, "spec.model: 'hf://' is neither"),
        ({"model": "hf://org/model:"}, "is neither"),
        ({"model": "hf://org/model:a..b"}, "is neither"),
        ({"model": "hf://org/model/file.bin"}, "is neither"),
        ({"revision": "a b"}, "spec.revision: 'a b' is not a commit, a tag or a branch"),
        ({"revision": "v1", "model": "/models/a"}, "spec.revision: it is a revision of a Hugging Face repository"),
        ({"revision": "v1", "model": "hf://a/b:v2"}, "spec.revision: spec.model names another revision, v2; keep one"),
        (
            {"revision": "v1", "env": [{"name": "REVISION", "value": "v1"}]},
            "spec.env: REVISION is refused: spec.revision or spec.model sets the revision",
        ),
        (
            {"model": "hf://a/b@v1", "env": [{"name": "VLLM_EXTRA_ARGS", "value": "--seed 1 --revision=v2"}]},
            "VLLM_EXTRA_ARGS: --revision is refused",
        ),
        ({"revision": "v1", "args": ["--revision v1"]}, "spec.args: --revision is refused"),
        ({"args": ["--api_key=k"]}, "spec.args: --api-key is refused: keys come from the endpoint's Secret"),
        ({"args": ["--seed 1 --port 9"]}, "spec.args: --port is refused: the Service reaches the server on its port"),
        ({"args": ["--model", "a/b"]}, "spec.args: --model is refused: spec.model sets it"),
        ({"args": ["serve", "a/b"]}, "spec.args: 'serve' belongs to no flag; remove `vllm serve`"),
        ({"args": ["--"]}, "spec.args: a bare -- ends the flags"),
        ({"args": ["--chat-template 'a"]}, 'spec.args: "--chat-template \'a": no closing quotation'),
        ({"args": ["--a=" + 6000 * "x", 6000 * "y", 6000 * "z"]}, "spec.args: more than 16384 characters"),
        ({"args": ["--seed", 1]}, "spec.args[1]: 1 is not text"),
        (
            {"args": ["--no-enable-lora"], "adapters": [{"name": "a", "source": "a/b"}]},
            "spec.args: --no-enable-lora is refused: spec.adapters sets it",
        ),
        (
            {"adapters": [{"name": "a", "source": "hf://a/b:v1"}]},
            "spec.adapters: a names a revision; vLLM reads adapters from the main branch only",
        ),
        ({"replicas": "two"}, "spec.replicas: 'two' is not a whole number"),
        ({"replicas": -1}, "spec.replicas: -1 is not from 0 to 1000"),
        ({"gpu": {"count": 65}}, "spec.gpu.count: 65 is not from 0 to 64"),
        ({"service": {"port": 0}}, "spec.service.port: 0 is not from 1 to 65535"),
        ({"service": {"port": True}}, "spec.service.port: True is not a whole number"),
        ({"rollout": {"strategy": "Fast"}}, "spec.rollout.strategy: 'Fast' is not one of Surge, Replace"),
        ({"auth": {"mode": ["None"]}}, "spec.auth.mode: ['None'] is not one of APIKey, None"),
        (
            {"cache": {"size": "1Gi", "accessModes": ["Any"]}},
            "spec.cache.accessModes[0]: 'Any' is not one of ReadWriteOnce",
        ),
        ({"env": [{"value": "x"}]}, "spec.env[0]: {'value': 'x'} has no name"),
        (
            {"env": [{"name": "SERVED_MODEL_NAME", "value": 5}]},
            "spec.env[0]: {'name': 'SERVED_MODEL_NAME', 'value': 5}",
        ),
        ({"resources": {"limits": "all"}}, "spec.resources.limits: 'all' is not an object"),
        ({"suspend": 1}, "spec.suspend: 1 is not true or false"),
        ({"gpu": "all"}, "spec.gpu: 'all' is not an object"),
        ({"adapters": {}}, "spec.adapters: {} is not a list"),
        ({"adapters": [{"source": "a/b"}]}, "spec.adapters[0].name: missing"),
        (
            {"adapters": [{"name": "a", "source": "s3://bucket/c"}]},
            "spec.adapters: vLLM reads no adapters from buckets",
        ),
        ({"adapters": [{"name": "org/model", "source": "a/b"}]}, "'org/model' is the name of the model itself"),
        (
            {"adapters": [{"name": "a", "source": "b/c"}], "env": [{"name": "LORA_MODULES", "value": "[]"}]},
            "spec.env: LORA_MODULES is refused: spec.adapters sets it",
        ),
        ({"cache": {"claimName": "a", "size": "1Gi"}}, "spec.cache: claimName names an existing claim"),
        ({"gpu": {"resource": "example.com/npu", "product": "X"}}, "no label is known for example.com/npu"),
        ({"rollout": {"drainTimeout": "soon"}}, "spec.rollout.drainTimeout: 'soon' is not a duration"),
        ({"rollout": {"drainTimeout": "25h"}}, "spec.rollout.drainTimeout: 25h is not between 0s and 24h"),
        ({"rollout": {"startupTimeout": "5s"}}, "spec.rollout.startupTimeout: 5s is not between 10s and 24h"),
        ({"pod": {"labels": {"forebay.dev/endpoint": "x"}}}, "spec.pod.labels: forebay.dev/endpoint is reserved"),
        ({"pod": {"annotations": {"forebay.dev/revision": "x"}}}, "forebay.dev/revision is reserved"),
        ({"pod": {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}}, "a must be exactly one of configMap"),
        ({"pod": {"volumes": [{"name": "forebay-a", "emptyDir": {}}]}}, "forebay-a begins with forebay-"),
        ({"pod": {"volumeMounts": [{"name": "a", "mountPath": "/a"}]}}, "a is not among spec.pod.volumes"),
    ],
)
def test_invalid_specs_are_rejected(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_endpoint(endpoint_manifest(**spec))
    assert problem in str(refused.value)


def test_an_invalid_name_and_all_other_problems_are_reported_together() -> None:
    manifest = endpoint_manifest(model="")
    manifest["metadata"]["name"] = "1" * 50
    with pytest.raises(InvalidSpec) as refused:
        parse_endpoint(manifest)
    assert len(refused.value.problems) == 2


@pytest.mark.parametrize(
    "path",
    ["/", "/run", "/run/forebay/keys", "/var/run/forebay", "/model", "/cache", "/cache/", "/dev/shm", "/a/../run"],
)
def test_nothing_is_mounted_over_the_servers_own_volumes(path: str) -> None:
    pod = {"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": path}]}
    with pytest.raises(InvalidSpec, match="is taken by the server's own volumes"):
        parse_endpoint(endpoint_manifest(pod=pod))


@pytest.mark.parametrize("path", ["/data", "/cache/extra", "/tmp/a", "/run/other", "/models"])
def test_other_paths_accept_a_mount(path: str) -> None:
    mount = {"name": "a", "mountPath": path}
    pod = {"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [mount]}
    assert parse_endpoint(endpoint_manifest(pod=pod)).pod.volume_mounts == (mount,)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("0s", 0), ("", None), ("5", None), ("m", None)]
)
def test_durations(text: str, seconds: int | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="is not a duration"):
            read_duration(text)
    else:
        assert read_duration(text) == seconds


def test_a_suspended_endpoint_needs_no_pods_and_keeps_its_replicas() -> None:
    endpoint = parse_endpoint(endpoint_manifest(replicas=3, suspend=True))
    assert (endpoint.wanted, endpoint.replicas) == (0, 3)


def test_adapters_are_served_beside_the_model() -> None:
    endpoint = parse_endpoint(endpoint_manifest(adapters=[{"name": "a", "source": "org/adapter"}]))
    assert (endpoint.model_names, endpoint.served_names) == (("org/model",), ("org/model", "a"))
