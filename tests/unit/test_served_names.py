"""The names in an endpoint's status are the names that its server serves, whatever the variables are."""

import argparse
import json
from typing import Any

import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from forebay_operator.resources.pod_template.pod_spec import build_env
from forebay_operator.spec import Endpoint, parse_endpoint, served_names
from forebay_protocol.env_lists import SERVED_NAME_OVERRIDE, SERVED_NAME_VARIABLES
from forebay_server.config.env_to_flags import resolve_flags
from forebay_server.config.variable_names import ALIASES, CONFIG_FILE, EXTRA_ARGUMENTS
from forebay_server.config.vllm_flags import flags_of
from tests.fuzz import fuzzed
from tests.unit.operator.builders import SETTINGS, endpoint_manifest


class ReadLoraModules(argparse.Action):
    """Collects the names of adapters, as vLLM's LoRAParserAction does."""

    def __call__(self, _parser: Any, namespace: argparse.Namespace, values: Any, _option: str | None = None) -> None:
        namespace.lora_modules = [self._name(item) for item in values if item]

    def _name(self, item: str) -> str:
        if "=" in item and "," not in item:
            return item.split("=", 1)[0]
        try:
            module = json.loads(item)
        except ValueError:
            module = None
        if not (isinstance(module, dict) and isinstance(module.get("name"), str) and "path" in module):
            raise argparse.ArgumentError(self, f"invalid: {item}")
        return str(module["name"])


PARSER = argparse.ArgumentParser(prog="vllm serve", exit_on_error=False)
PARSER.add_argument("--model")
PARSER.add_argument("--seed", type=int)
PARSER.add_argument("--served-model-name", nargs="+")
PARSER.add_argument("--lora-modules", nargs="+", action=ReadLoraModules)
PARSER.add_argument("--enable-lora", action=argparse.BooleanOptionalAction)
FLAGS = flags_of(PARSER)


def names_of_server(endpoint: Endpoint) -> list[str]:
    """The names that the server of an endpoint passes to vLLM, the model's first.

    Raises ValueError or argparse.ArgumentError if it does not start.
    """
    env = {variable["name"]: variable["value"] for variable in build_env(endpoint, SETTINGS)}
    result = resolve_flags(env, FLAGS, [], [], lambda path: [])
    if result.errors:
        raise ValueError(result.errors)
    parsed, rest = PARSER.parse_known_args(result.arguments)
    if rest:  # a name that begins with a dash is no value for argparse
        raise ValueError(f"unrecognized arguments: {rest}")
    return [*(parsed.served_model_name or [result.model]), *filter(None, parsed.lora_modules or ())]


LISTS = (
    st.text(alphabet="ab5 ,='\"[]{}:\\/\n", max_size=12)
    | st.sampled_from(["", " ", "None", "[]", "[ ]", "My Model", "a,b", "a b", '["a", 5, null]', '{"a": 1}'])
    | st.sampled_from(["a=org/a", "a=b c=d", '{"name": "a", "path": "b,c=d"}', '["a=b", {"name": "c", "path": "d"}]'])
    | st.lists(st.text(max_size=4) | st.integers() | st.none(), max_size=3).map(json.dumps)
)


@fuzzed
@given(
    values=st.dictionaries(st.sampled_from([*SERVED_NAME_VARIABLES, "LORA_MODULES"]), LISTS),
    model=st.sampled_from(["org/model", "oci://registry/model:1"]),
)
@example(values={SERVED_NAME_OVERRIDE: "My Model"}, model="org/model")
@example(values={"SERVED_MODEL_NAME": '["a", "-:"]'}, model="org/model")
@example(values={SERVED_NAME_OVERRIDE: " ", "SERVED_MODEL_NAME": "None"}, model="oci://registry/model:1")
def test_the_status_has_the_names_that_the_server_serves(values: dict[str, str], model: str) -> None:
    variables = [{"name": name, "value": value} for name, value in values.items()]
    endpoint = parse_endpoint(endpoint_manifest(model=model, env=variables))
    try:
        served = names_of_server(endpoint)
    except (ValueError, argparse.ArgumentError):
        reject()
    assert list(endpoint.served_names) == served


@pytest.mark.parametrize(
    ("args", "arguments", "names"),
    [
        ([], "--served-model-name a 'b c' --seed 1", ["a", "b c"]),
        ([], "--served-model-name=a --enable-lora", ["a"]),
        ([], "--seed 1", ["override"]),
        ([], "--lora-modules b=org/b", ["override", "b"]),
        (["--served-model-name d 'e f'"], "--served-model-name=a", ["d", "e f"]),
        (["--served-model-name=d"], "--lora-modules b=org/b", ["d", "b"]),
        (["--lora-modules", '{"name": "g", "path": "/g"}'], "--lora-modules b=org/b", ["override", "g"]),
    ],
)
def test_arguments_override_the_names_in_variables(args: list[str], arguments: str, names: list[str]) -> None:
    values = {SERVED_NAME_OVERRIDE: "override", EXTRA_ARGUMENTS: arguments}
    env = [{"name": name, "value": value} for name, value in values.items()]
    endpoint = parse_endpoint(endpoint_manifest(args=args, env=env))
    assert list(endpoint.served_names) == names_of_server(endpoint) == names


def test_operator_and_server_know_the_same_variables() -> None:
    assert (served_names.FILE_VARIABLE, served_names.ARGUMENTS_VARIABLE) == (CONFIG_FILE, EXTRA_ARGUMENTS)
    assert [name for name, flag in ALIASES.items() if flag == "SERVED_MODEL_NAME"] == [SERVED_NAME_OVERRIDE]
