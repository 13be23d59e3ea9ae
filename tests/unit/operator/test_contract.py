"""The schema of the CRD matches the operator's types, and `kubectl explain` describes every field."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import yaml

from cluster.pins import ROOT
from docs.generators.reference import MAX_CELL, render
from forebay_operator.spec import Spec, parse_endpoint
from forebay_operator.spec.endpoint import Between
from forebay_operator.spec.parsing import camel
from forebay_operator.spec.validation import LIMIT_VARIABLES, OWN_PREFIX, REFUSED_VARIABLES, VOLUME_TYPES
from forebay_operator.status.env_warnings import known_names
from tests.unit.operator.builders import endpoint_manifest

CRD = yaml.safe_load((ROOT / "crds/inferenceendpoints.forebay.dev.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]


def walk(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every field below, with its path; items of lists and values of maps as [] and {}."""
    for name, one in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", one
        yield from walk(one, f"{path}.{name}")
    if "items" in schema:
        yield f"{path}[]", schema["items"]
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield f"{path}{{}}", schema["additionalProperties"]
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def complete(schema: Mapping[str, Any], value: Any) -> Any:
    """The value with the schema's defaults filled in, as the API server does."""
    if isinstance(value, dict):
        for name, one in (schema.get("properties") or {}).items():
            if name not in value and "default" in one:
                value[name] = yaml.safe_load(yaml.safe_dump(one["default"]))
            if name in value:
                value[name] = complete(one, value[name])
    return value


def of_what(hint: Any) -> Any:
    """The type of a field that is set."""
    return get_args(hint)[0] if get_origin(hint) in (Union, UnionType) else hint


def mirrored(kind: Any, schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, set[str], set[str]]]:
    """Each object that has a class: its path, the fields of the class, and those of the schema."""
    yield path, {camel(one.name) for one in fields(kind)}, set(schema["properties"])
    for name, hint in get_type_hints(kind).items():
        below = schema["properties"].get(camel(name), {})
        of = get_args(hint)[0] if get_args(hint) and "items" in below else of_what(hint)
        if is_dataclass(of) and "properties" in below.get("items", below):
            yield from mirrored(of, below.get("items", below), f"{path}.{camel(name)}")


@pytest.mark.parametrize(
    ("path", "known", "described"), [pytest.param(*row, id=row[0]) for row in mirrored(Spec, SPEC, "spec")]
)
def test_the_operator_knows_every_field_of_the_schema(path: str, known: set[str], described: set[str]) -> None:
    assert known == described


def test_every_applied_object_has_a_class() -> None:
    assert {row[0] for row in mirrored(Spec, SPEC, "spec")} == {
        "spec", "spec.gpu", "spec.auth", "spec.cache", "spec.adapters", "spec.service", "spec.route",
        "spec.networkPolicy", "spec.pod", "spec.rollout", "spec.scaling", "spec.scaling.target",
        "spec.scaling.stabilization", "spec.upgrade",
    }  # fmt: skip


def test_the_operator_and_the_schema_have_the_same_defaults() -> None:
    bare = endpoint_manifest()
    filled = {**bare, "spec": complete(SPEC, {"model": "org/model"})}
    assert parse_endpoint(filled) == parse_endpoint(bare)
    assert len(filled["spec"]) > 8


def bounds(kind: Any, schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, object, object]]:
    """Each field of texts or numbers: its path, the values of its type, and the values of the schema."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        one, place = schema["properties"].get(camel(name), {}), f"{path}.{camel(name)}"
        if get_origin(hint) is tuple:
            one = one["items"]
        of = get_args(hint)[0] if get_origin(hint) is tuple else of_what(hint)
        if is_dataclass(of) and "properties" in one:
            yield from bounds(of, one, place)
        elif of is int or get_origin(of) is Annotated:
            yield place, get_args(of)[1:], (Between(one["minimum"], one["maximum"]),)
        elif get_origin(of) is Literal or "enum" in one:
            yield place, set(get_args(of)), set(one.get("enum", ()))


def test_the_operator_and_the_schema_have_the_same_enums_and_bounds() -> None:
    rows = list(bounds(Spec, SPEC, "spec"))
    assert {path: known for path, known, _ in rows} == {path: described for path, _, described in rows}
    assert len(rows) == 15


EVERY_FIELD = list(walk(SCHEMA["properties"]["spec"], "spec"))
EVERY_FIELD_OF_BOTH = [*EVERY_FIELD, *walk(SCHEMA["properties"]["status"], "status")]
"""Those of the spec and of the status."""


def test_every_field_is_described() -> None:
    silent = [
        path for path, one in EVERY_FIELD_OF_BOTH if not path.endswith(("[]", "{}")) and not one.get("description")
    ]
    assert silent == []


def test_every_default_is_named_in_the_description() -> None:
    """`kubectl explain` shows no defaults."""
    silent = [
        path
        for path, one in [*EVERY_FIELD_OF_BOTH, ("status", SCHEMA["properties"]["status"])]
        if "default" in one and "Defaults to " not in one["description"].split(". ")[-1]
    ]
    assert silent == []


def test_no_text_of_the_schema_is_empty_by_default() -> None:
    assert [path for path, one in EVERY_FIELD_OF_BOTH if "" in _values_below(one.get("default"))] == []


def _values_below(default: Any) -> list[Any]:
    return list(default.values()) if isinstance(default, dict) else [default]


def test_every_field_is_bounded() -> None:
    def bounded(one: Mapping[str, Any]) -> bool:
        kind = one.get("type")
        if kind == "string":
            return "maxLength" in one or "enum" in one or one.get("format") == "date-time"
        if kind == "array":
            return "maxItems" in one and "x-kubernetes-list-type" in one
        if kind == "object":
            return "properties" in one or "maxProperties" in one
        return kind in ("integer", "boolean") or one.get("x-kubernetes-int-or-string") is True

    assert [path for path, one in EVERY_FIELD_OF_BOTH if not bounded(one)] == []
    assert not any("x-kubernetes-preserve-unknown-fields" in one for _, one in EVERY_FIELD_OF_BOTH)
    assert not any(one.get("type") == "number" for _, one in EVERY_FIELD_OF_BOTH)


def test_every_rule_names_a_remedy() -> None:
    rules = [rule for _, one in [("spec", SPEC), *EVERY_FIELD] for rule in one.get("x-kubernetes-validations") or ()]
    assert len(rules) > 30
    assert all(len(rule.get("message", "")) > 20 for rule in rules)


def test_the_schema_has_the_volume_types_that_the_operator_accepts() -> None:
    found = dict(EVERY_FIELD)["spec.pod.volumes[]"]["properties"]
    assert set(found) - {"name"} == VOLUME_TYPES


def test_the_schema_rejects_the_variables_that_the_operator_rejects() -> None:
    rules = str(dict(EVERY_FIELD)["spec.env[]"]["x-kubernetes-validations"])
    assert [name for name in REFUSED_VARIABLES if f"'{name}'" not in rules] == []


def test_only_limits_of_the_server_can_be_set_by_env() -> None:
    rules = str(dict(EVERY_FIELD)["spec.env[]"]["x-kubernetes-validations"])
    assert [name for name in LIMIT_VARIABLES if f"'{name}'" not in rules] == []
    own = {name for name in known_names() if name.startswith(OWN_PREFIX)}
    promises = {"ARGS", "ENDPOINT", "AUTH", "KEYS_DIR", "CONTROL_DIR", "DRAIN_SECONDS", "TERMINATION_LOG"}
    assert own - {f"{OWN_PREFIX}{name}" for name in promises} == LIMIT_VARIABLES
    variables = [{"name": name, "value": "1"} for name in sorted(LIMIT_VARIABLES)]
    assert parse_endpoint(endpoint_manifest(env=variables)).env == tuple(variables)


def test_no_cell_of_the_reference_page_is_too_long() -> None:
    rows = [line for line in render(CRD).splitlines() if line.startswith("| ")]
    assert [cell for row in rows for cell in row.strip("|").split(" | ") if len(cell.strip()) > MAX_CELL] == []
    assert len(rows) > 50


def test_the_reference_page_matches_the_schema() -> None:
    assert (ROOT / "docs/reference.md").read_text() == render(CRD), "run make docs"
