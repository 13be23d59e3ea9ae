"""The chart's life: installed, upgraded, removed, installed again; with the CRD in it or from elsewhere.

These tests uninstall the chart, so they run first and leave it installed, with the CRD from the chart.
"""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.pins import ROOT
from tests.crd_owner import take_over_crd
from tests.e2e.chart import CRD, uninstall, works
from tests.e2e.forebay import CHART, SYSTEM, install_chart
from tests.endpoints import endpoint, exists
from tests.kubectl import Kubectl, Refused, wait_for

pytestmark = pytest.mark.installs

ALONE = "--set=gateway.enabled=false"
"""Gateways need ten seconds to shut down."""

CRD_FILE = ROOT / f"crds/{CRD}.yaml"


@pytest.fixture(scope="module")
def bare(cluster: Kubectl) -> Iterator[Kubectl]:
    """The cluster without chart and CRD; with both again afterwards."""
    uninstall(cluster)
    cluster.delete("crd", CRD)
    yield cluster
    uninstall(cluster)
    cluster.delete("crd", CRD)
    install_chart(cluster)


def test_the_crd_can_be_applied_with_kubectl_first(bare: Kubectl) -> None:
    bare.run("apply", "-f", str(CRD_FILE))
    install_chart(bare, ALONE, "--set=crds.install=false")
    assert works(bare, "first")
    uninstall(bare)
    assert bare.get("crd", CRD)
    bare.delete("crd", CRD)


def test_the_chart_installs_the_crd_and_an_upgrade_extends_it(bare: Kubectl, tmp_path: Path) -> None:
    install_chart(bare, ALONE)
    assert works(bare, "second")
    install_chart(bare, ALONE, chart=chart_with_a_new_field(tmp_path))
    assert bare.apply(endpoint("second", replicas=0, tomorrow="x"))["spec"]["tomorrow"] == "x"


def test_uninstalling_keeps_the_crd_and_the_endpoints(bare: Kubectl) -> None:
    uninstall(bare)
    assert bare.get("crd", CRD)
    assert bare.get("iep", "second")
    assert bare.get("deployment", "second")
    with pytest.raises(Refused):
        bare.run("get", "clusterrole", "forebay")


def test_a_second_installation_adopts_existing_objects(bare: Kubectl) -> None:
    install_chart(bare, ALONE)
    bare.run("delete", "deployment", "second")
    wait_for(exists(bare, "deployment", "second"), "the operator repairs the earlier endpoint")
    bare.delete("iep", "second")


@pytest.fixture
def namespace(bare: Kubectl) -> Iterator[Kubectl]:
    """The test's own namespace, deleted after it."""
    within = bare.within(f"chart-{uuid.uuid4().hex[:8]}")
    bare.run("create", "namespace", within.namespace)
    yield within
    bare.run("delete", "namespace", within.namespace, "--wait=false")


def test_users_who_may_edit_a_namespace_may_edit_its_endpoints(namespace: Kubectl) -> None:
    account = f"--serviceaccount={namespace.namespace}:someone"
    namespace.run("create", "serviceaccount", "someone")
    namespace.run("create", "rolebinding", "someone-views", "--clusterrole=view", account)
    wait_for(lambda: may(namespace, "get"), "a viewer may see endpoints", timeout=30)
    assert not may(namespace, "create")
    namespace.run("create", "rolebinding", "someone-edits", "--clusterrole=edit", account)
    wait_for(lambda: may(namespace, "create"), "an editor may create endpoints", timeout=30)
    assert may(namespace, "patch", "--subresource=scale")
    assert not may(namespace, "patch", "--subresource=status")


def may(kubectl: Kubectl, verb: str, *options: str) -> bool:
    """Whether the service account `someone` may do this with endpoints."""
    account = f"--as=system:serviceaccount:{kubectl.namespace}:someone"
    try:
        return kubectl.run("auth", "can-i", verb, "inferenceendpoints", account, *options).strip() == "yes"
    except Refused:
        return False


@pytest.fixture
def another_release(bare: Kubectl) -> Iterator[str]:
    """The name of a second release. Afterwards it is uninstalled, and the CRD belongs to the first one again."""
    yield "llm"
    uninstall(bare, "llm")
    take_over_crd(bare, "forebay", SYSTEM)


def test_another_release_adopts_the_endpoints(bare: Kubectl, another_release: str) -> None:
    assert works(bare, "third")
    kept = {kind: bare.get(kind, name) or {} for kind, name in (("deployment", "third"), ("secret", "third-api-key"))}
    uninstall(bare)
    with pytest.raises(AssertionError, match="cannot be imported into the current release"):
        install_chart(bare, ALONE, release=another_release)
    take_over_crd(bare, another_release, SYSTEM)
    install_chart(bare, ALONE, release=another_release)
    bare.run("delete", "service", "third")
    wait_for(exists(bare, "service", "third"), "the new operator repairs the endpoint of the old one")
    for kind, before in kept.items():
        found = bare.get(kind, before["metadata"]["name"]) or {}
        assert found["metadata"]["uid"] == before["metadata"]["uid"], f"the {kind} is kept"
    bare.delete("iep", "third")


def chart_with_a_new_field(folder: Path) -> Path:
    """A copy of the chart, its CRD with one more field."""
    chart = folder / "forebay"
    shutil.copytree(CHART, chart)
    path = chart / f"files/{CRD}.yaml"
    crd = yaml.safe_load(path.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["tomorrow"] = {"type": "string", "maxLength": 8, "description": "A field of tomorrow."}
    path.unlink()
    path.write_text(yaml.safe_dump(crd))
    return chart
