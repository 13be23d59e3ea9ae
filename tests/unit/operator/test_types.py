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
    assert (endpoint.model, endpoint.served_name) == (parsed, served)


def test_the_served_name_can_be_set() -> None:
    override = {"name": "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "value": "my-model"}
    assert parse_endpoint(endpoint_manifest(env=[override])).served_name == "my-model"


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
