"""The files of the chart agree with each other and with what they are made from."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from cluster.pins import ROOT
from cluster.programs.older_kubernetes import MODULES
from docs.generators.chart import COPY, CRD, README, Undocumented, read_values, render
from forebay_gateway.__main__ import build_parser
from forebay_gateway.settings import Limits
from forebay_operator.settings import POD_IDS
from forebay_operator.spec.defaults import CA_FILE, CA_MOUNT, CA_VARIABLES

CHART = ROOT / "charts/forebay"
VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

CHARTS_OWN = {
    "help", "port", "ops_address", "namespace", "home_namespace", "watch_namespaces", "pod_ops_port", "jobs",
    "trusted_proxies", "namespace_share", "log_level", "files_bucket", "files_endpoint", "files_region", "files_prefix",
    "files_style",
}  # fmt: skip
"""Settings of the gateway that the chart sets itself, from other values."""


def test_the_readme_is_made_from_the_values() -> None:
    assert README.read_text() == render(VALUES), "run make docs"


def test_the_chart_has_a_copy_of_the_crd_and_no_link() -> None:
    """Flux omits links, and a link leads nowhere in a copy of the chart alone."""
    assert [path for path in CHART.rglob("*") if path.is_symlink()] == []
    assert COPY.read_bytes() == CRD.read_bytes(), "run make docs"


def test_a_value_without_a_description_is_reported() -> None:
    with pytest.raises(Undocumented, match=r"values\.yaml:5: a\.c has no comment"):
        list(read_values("# One.\na:\n  # Two.\n  b: 1\n  c: 2\n"))


def keys_of(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that the schema describes, without those of objects that other values name (their `properties`)."""
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    below = schema.get("properties") or {}
    if not below or prefix.removesuffix(".") in LEAVES:
        yield prefix.removesuffix(".")
        return
    for name, one in below.items():
        yield from keys_of(one, f"{prefix}{name}.")


LEAVES = {value.path for value in read_values(VALUES) if value.default is not None}
"""The keys that values.yaml describes."""


def test_the_schema_has_the_keys_of_the_values() -> None:
    assert set(keys_of(SCHEMA)) == LEAVES


def test_every_object_of_the_schema_is_strict() -> None:
    def lenient(schema: Any, path: str) -> Iterator[str]:
        if isinstance(schema, Mapping):
            if "properties" in schema and schema.get("additionalProperties") is not False:
                yield path
            for name, one in schema.items():
                yield from lenient(one, f"{path}.{name}")

    assert list(lenient(SCHEMA, "")) == [".properties.global"], "a parent chart has more keys in global"


def test_the_schema_has_the_settings_of_the_gateway() -> None:
    settings = SCHEMA["properties"]["gateway"]["properties"]["settings"]["properties"]
    known = {action.dest for action in build_parser()._actions}
    assert known >= CHARTS_OWN
    expected = {}
    for name in known - CHARTS_OWN:
        kind = type(getattr(Limits, name, ""))
        number = {"type": "integer" if kind is int else "number", "minimum": 0}
        expected[name] = {"type": "string"} if kind is str else number
    assert settings == expected


def test_the_values_have_the_ids_of_the_operator() -> None:
    assert yaml.safe_load(VALUES)["server"]["podSecurityContext"] == POD_IDS


def test_the_ca_bundle_is_at_the_same_place_in_all_pods() -> None:
    template = (CHART / "templates/_pods.tpl").read_text()
    assert f"range list {' '.join(json.dumps(name) for name in CA_VARIABLES)} " in template
    assert f"value: {CA_MOUNT}/{CA_FILE}}}" in template
    assert f'"mountPath" "{CA_MOUNT}"' in template


def test_the_oldest_version_of_kubernetes_can_be_tested() -> None:
    """By `make integration KUBERNETES=…`."""
    oldest = min(MODULES.iterdir(), key=lambda module: int(module.name.partition(".")[2]))
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={oldest.name}.0-0"


def test_the_chart_names_its_maintainers_and_no_address() -> None:
    text = (CHART / "Chart.yaml").read_text()
    chart = yaml.safe_load(text)
    assert chart["maintainers"] == [{"name": "The Forebay Authors"}]
    assert "://" not in text, "nothing is published yet"
    assert {"description", "keywords", "kubeVersion", "annotations", "appVersion"} <= chart.keys()
    for name in ("artifacthub.io/crds", "artifacthub.io/crdsExamples"):
        assert yaml.safe_load(chart["annotations"][name])
