"""Reading an endpoint, and refusing one that cannot work even where the schema let it pass."""

from typing import Any

import pytest

from forebay_operator.types import Auth, Gpu, InvalidSpec, Model, parse_endpoint
from tests.unit.operator.test_status import endpoint_manifest


def test_what_is_left_out_gets_its_default() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    assert endpoint.gpu == Gpu(1, "nvidia.com/gpu")
    assert endpoint.auth == Auth("APIKey", "")
    assert (endpoint.replicas, endpoint.service.port) == (1, 80)
    assert endpoint.url == "http://one.team.svc/v2/one/openai/v1"


@pytest.mark.parametrize(
    ("model", "parsed", "served"),
    [
        ("org/model", Model("hub", "org/model"), "org/model"),
        ("oci://host/model:1", Model("image", "host/model:1"), "one"),
        ("/models/a", Model("path", "/models/a"), "one"),
    ],
)
def test_models(model: str, parsed: Model, served: str) -> None:
    endpoint = parse_endpoint(endpoint_manifest(model=model))
    assert (endpoint.model, endpoint.served_names) == (parsed, (served,))


@pytest.mark.parametrize(
    ("env", "served"),
    [
        ({"OPENAI_SERVED_MODEL_NAME_OVERRIDE": "my-model"}, ("my-model",)),
        ({"SERVED_MODEL_NAME": "a,b c"}, ("a", "b", "c")),
        ({"SERVED_MODEL_NAME": "a", "OPENAI_SERVED_MODEL_NAME_OVERRIDE": "b"}, ("b",)),
        ({"MAX_MODEL_LEN": "64"}, ("org/model",)),
    ],
)
def test_the_served_names_can_be_set(env: dict[str, str], served: tuple[str, ...]) -> None:
    variables = [{"name": name, "value": value} for name, value in env.items()]
    assert parse_endpoint(endpoint_manifest(env=variables)).served_names == served


def test_a_served_name_from_a_secret_is_not_known_here() -> None:
    override = {"name": "SERVED_MODEL_NAME", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert parse_endpoint(endpoint_manifest(env=[override])).served_names == ()


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
        ({"auth": {"mode": "None", "secretName": "s"}}, "spec.auth: mode None takes no secretName"),
    ],
)
def test_what_cannot_work_is_refused(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_endpoint(endpoint_manifest(**spec))
    assert problem in str(refused.value)


def test_a_bad_name_and_all_other_problems_are_named_at_once() -> None:
    manifest = endpoint_manifest(model="")
    manifest["metadata"]["name"] = "1" * 50
    with pytest.raises(InvalidSpec) as refused:
        parse_endpoint(manifest)
    assert len(refused.value.problems) == 2
