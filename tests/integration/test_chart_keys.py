"""Every key of the chart's values has an effect, alone and with all others, and the API server accepts the objects."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from cluster.pins import ROOT
from cluster.tools import host_tools
from docs.generators.chart import read_values
from forebay_operator.spec import parse_defaults
from tests.integration.chart_keys import ROWS
from tests.integration.chart_row import ABSENT, Row, merge
from tests.integration.httproutes import HTTPROUTES, httproute_crd
from tests.kubectl import Kubectl, Manifest, install_crd

CHART = ROOT / "charts/forebay"
NAMESPACE = "system"
CRD = "CustomResourceDefinition/inferenceendpoints.forebay.dev"

ALL_VALUES: dict[str, Any] = {}
for one in ROWS:
    if not one.alone:
        merge(ALL_VALUES, one.values)

EXTRA = {"ConfigMap/forebay-more", "ConfigMap/forebay-text"}
"""The objects of extraObjects, which the chart leaves as they are."""

Objects = dict[str, Manifest]
"""KIND/NAME -> object."""


def render(values: Mapping[str, Any], *options: str) -> Objects:
    """The objects of the chart with these values. The CRD is only in them if the values install it."""
    base = {"image": {"repository": "team/operator"}, "crds": {"install": False}}
    given = json.dumps(merge(json.loads(json.dumps(values)), base))
    command = [str(host_tools() / "helm"), "template", "forebay", str(CHART), f"--namespace={NAMESPACE}", *options]
    done = subprocess.run(
        [*command, "--values=-"], input=given, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in yaml.load_all(done.stdout, LOADER) if each}


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@pytest.fixture(scope="module")
def rendered(run_cluster: Callable[..., None]) -> list[Objects]:
    """The objects of each row alone, of all together, and for OpenShift."""
    run_cluster("tools")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(render, [row.values for row in ROWS]))
    openshift = render({}, f"--values={CHART / 'values-openshift.yaml'}")
    return [*found, render(ALL_VALUES), openshift]


def find_differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Describe the expected parts that `found` lacks."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            yield f"{path}: {found!r} is no object"
            return
        for key, value in expected.items():
            if value is ABSENT:
                if key in found:
                    yield f"{path}.{key}: {found[key]!r} should not be there"
            elif key not in found:
                yield f"{path}.{key}: missing"
            else:
                yield from find_differences(found[key], value, f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        for item in expected:
            if all(list(find_differences(each, item)) for each in found):
                yield f"{path}: {item!r} is not in {found!r}"
    elif found != expected:
        yield f"{path}: {found!r} is not {expected!r}"


def check(objects: Objects, row: Row) -> list[str]:
    """Describe the expected parts that the objects of a row lack."""
    wrong: list[str] = []
    for name, expected in row.objects.items():
        for each in (set(objects) - EXTRA) if name == "*" else [name]:
            if expected is None:
                wrong += [f"{each}: rendered"] if each in objects else []
            elif each not in objects:
                wrong.append(f"{each}: not rendered")
            else:
                found = with_json(objects[each])
                wrong += [f"{each}{problem}" for problem in find_differences(found, expected)]
    return wrong


def with_json(manifest: Manifest) -> Manifest:
    """An object; the operator's also with the content of its variables in JSON, as it reads them."""
    if (manifest["kind"], manifest["metadata"]["name"]) != ("Deployment", "forebay"):
        return manifest
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    values = {each["name"]: each.get("value", "") for each in container["env"]}
    text = values.get("FOREBAY_ENDPOINT_DEFAULTS", "{}").replace("$$", "$")
    parse_defaults(text)
    return {**manifest, "defaults": json.loads(text), "ids": json.loads(values["FOREBAY_POD_IDS"])}


def test_the_table_has_every_key() -> None:
    keys = {value.path for value in read_values((CHART / "values.yaml").read_text()) if value.default is not None}
    assert {row.key for row in ROWS} == keys


@pytest.mark.parametrize("place", range(len(ROWS)), ids=[row.key for row in ROWS])
def test_a_key_alone_has_its_effect(rendered: list[Objects], place: int) -> None:
    assert check(rendered[place], ROWS[place]) == []


def test_all_keys_together_have_their_effects(rendered: list[Objects]) -> None:
    wrong = {row.key: problems for row in ROWS if not row.alone and (problems := check(rendered[len(ROWS)], row))}
    assert wrong == {}
    assert CRD in rendered[len(ROWS)], "its labels and annotations are checked as well"


def test_helm_lint_finds_no_problem_with_all_keys(rendered: list[Objects]) -> None:
    command = [str(host_tools() / "helm"), "lint", "--strict", str(CHART), "--values=-"]
    given = json.dumps(merge(json.loads(json.dumps(ALL_VALUES)), {"image": {"repository": "team/operator"}}))
    linted = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_no_pod_for_openshift_asks_for_a_user(rendered: list[Objects]) -> None:
    """The SCC restricted-v2 refuses users and groups of volumes outside the range of the namespace."""
    objects = rendered[-1]
    pods = [each["spec"]["template"]["spec"] for each in objects.values() if "template" in each.get("spec", ())]
    assert len(pods) == 3
    for pod in pods:
        for context in (pod["securityContext"], *(each["securityContext"] for each in pod["containers"])):
            assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"}
    assert with_json(objects["Deployment/forebay"])["ids"] == {"runAsGroup": 0}
    assert {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices/restricted"], "verbs": ["create"]} in (
        objects["ClusterRole/forebay"]["rules"]
    )


def test_the_api_server_accepts_the_objects_of_every_key(rendered: list[Objects], control_plane: Kubectl) -> None:
    """The API server checks all fields in a dry run."""
    install_crd(control_plane, httproute_crd(), HTTPROUTES)
    for namespace in (NAMESPACE, "a", "b"):
        control_plane.run("create", "namespace", namespace)
    distinct = {json.dumps(each, sort_keys=True): each for objects in rendered for each in objects.values()}
    assert len(distinct) > len(ROWS)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(distinct.values())})
    applied = control_plane.within("").run(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "--field-manager=helm",
        "-f",
        "-",
        stdin=listed,
    )
    assert applied.count("(server dry run)") == len(distinct)
