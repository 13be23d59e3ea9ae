"""The chart under another release name, by the steps of docs/lifecycle.md: Helm itself on a real API server, and the
operator with the rights that each release gives it."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cluster.pins import ROOT
from tests.crd_owner import take_over_crd
from tests.endpoints import endpoint, exists
from tests.integration.operator_process import CHART, running_operator
from tests.kubectl import Kubectl, Manifest, wait_for

CRD = "inferenceendpoints.forebay.dev"
CRD_FILE = ROOT / f"crds/{CRD}.yaml"


@dataclass
class ChartCluster:
    """A namespace for the chart, and another for endpoints. Only the second one is watched."""

    system: Kubectl
    endpoints: Kubectl
    folder: Path

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.system.binary.parent / "helm"), f"--namespace={self.system.namespace}", *arguments]
        env = dict(self.system.environment())
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)

    def install(self, release: str, *values: str) -> subprocess.CompletedProcess[str]:
        watched = f"--set=watchNamespaces={{{self.endpoints.namespace}}}"
        return self.helm("install", release, str(CHART), "--set=image.repository=x", watched, *values)

    def take_over_crd(self, release: str) -> None:
        take_over_crd(self.system, release, self.system.namespace)

    @contextmanager
    def operator(self, account: str) -> Iterator[None]:
        """Run the command of the Deployment with that name, with the permissions of its service account."""
        found = self.system.get("deployment", account)
        assert found, f"the chart has no Deployment {account}"
        (container,) = found["spec"]["template"]["spec"]["containers"]
        (peers,) = (each["value"] for each in container["env"] if each["name"] == "FOREBAY_OPS_PEERS")
        config = yaml.safe_load(self.system.kubeconfig.read_text())
        config["users"][0]["user"]["token"] = self.system.run("create", "token", account).strip()
        path = self.folder / f"{account}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        options = f"--namespace={self.system.namespace}", f"--watch-namespaces={self.endpoints.namespace}"
        log = self.folder / f"{account}.log"
        with running_operator(Kubectl(self.system.binary, path), log, *options, f"--ops-peers={peers}") as process:
            yield
            assert process.poll() is None, f"the operator ended:\n{log.read_text()[-2000:]}"

    def admitted_release(self) -> str:
        """The release whose operator and gateways may reach the ops port of the endpoint's pods."""
        policy = self.endpoints.get("networkpolicy", "one") or {"spec": {"ingress": []}}
        peers = [peer for rule in policy["spec"]["ingress"] for peer in rule.get("from", ())]
        found = {peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/instance") for peer in peers}
        return ",".join(sorted(found - {None}))


@pytest.fixture
def cluster(control_plane: Kubectl, tmp_path: Path) -> Iterator[ChartCluster]:
    """A cluster without a release. The CRD exists, and belongs to no release."""
    mark = uuid.uuid4().hex[:8]
    system, endpoints = control_plane.within(f"system-{mark}"), control_plane.within(f"endpoints-{mark}")
    for each in (system, endpoints):
        each.run("create", "namespace", each.namespace)
    found = ChartCluster(system, endpoints, tmp_path)
    yield found
    for release in found.helm("list", "--short").stdout.split():
        found.helm("uninstall", release)
    keys = ("meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-")
    system.run("annotate", "crd", CRD, *keys)
    system.run("label", "crd", CRD, "app.kubernetes.io/managed-by-")


def test_another_release_adopts_the_crd_and_the_endpoints(cluster: ChartCluster) -> None:
    cluster.system.run("label", "crd", CRD, "app.kubernetes.io/managed-by=Helm")
    cluster.take_over_crd("first")
    done = cluster.install("first", "--force-conflicts")  # here kubectl made the CRD
    assert done.returncode == 0, done.stderr
    with cluster.operator("first-forebay"):
        cluster.endpoints.apply(endpoint())
        wait_for(exists(cluster.endpoints, "deployment", "one"), "the first operator creates the children")
        wait_for(lambda: cluster.admitted_release() == "first", "the first operator may reach the pods")
    children = [find_child(cluster.endpoints, kind, name) for kind, name in KEPT]
    done = cluster.helm("uninstall", "first")
    assert done.returncode == 0, done.stderr
    assert cluster.endpoints.get("iep", "one"), "the CRD and its endpoints are kept"
    refused = cluster.install("second")
    assert refused.returncode != 0
    assert 'key "meta.helm.sh/release-name" must equal "second"' in refused.stderr, "the documented step is needed"
    cluster.take_over_crd("second")
    done = cluster.install("second")
    assert done.returncode == 0, done.stderr
    with cluster.operator("second-forebay"):
        wait_for(lambda: cluster.admitted_release() == "second", "the second operator may reach the pods")
        cluster.endpoints.apply(endpoint(replicas=2))
        wait_for(lambda: replicas_of(cluster.endpoints) == 2, "the second operator reconciles the endpoint")
    for (kind, name), before in zip(KEPT, children, strict=True):
        assert find_child(cluster.endpoints, kind, name) == before, f"the {kind} {name} is unchanged"


def test_another_release_can_be_installed_before_the_first_is_removed(cluster: ChartCluster) -> None:
    """Both share one lease, so one operator works at a time, and neither removes the CRD."""
    cluster.system.run("label", "crd", CRD, "app.kubernetes.io/managed-by=Helm")
    for release, options in (("first", ("--force-conflicts",)), ("second", ())):
        cluster.take_over_crd(release)
        done = cluster.install(release, *options)
        assert done.returncode == 0, done.stderr
    leases = {
        rule["resourceNames"][0]
        for role in cluster.system.list("roles")
        for rule in role["rules"]
        if "leases" in rule["resources"] and "resourceNames" in rule
    }
    assert leases == {"forebay-operator"}
    cluster.endpoints.apply(endpoint())
    done = cluster.helm("uninstall", "first")
    assert done.returncode == 0, done.stderr
    assert cluster.endpoints.get("iep", "one"), "the CRD is kept"
    assert cluster.system.get("deployment", "second-forebay")


def test_a_new_release_can_use_the_names_of_the_first(cluster: ChartCluster) -> None:
    """The URL of the gateways, and the claim of the chart's Valkey with the jobs."""
    values = "--set=crds.install=false", "--set=fullnameOverride=kept", "--set=valkey.create=true"
    for release in ("first", "second"):
        done = cluster.install(release, *values)
        assert done.returncode == 0, done.stderr
        assert cluster.system.get("service", "kept-gateway")
        (valkey,) = cluster.system.list("statefulsets")
        assert valkey["metadata"]["name"] == "kept-valkey"
        assert cluster.helm("uninstall", release).returncode == 0


@pytest.fixture
def earlier_chart(cluster: ChartCluster, tmp_path: Path) -> Iterator[Path]:
    """The chart of an earlier release, whose CRD has no spec.upgrade. Afterwards, the CRD is of this checkout again."""
    chart = tmp_path / "earlier"
    shutil.copytree(CHART, chart)
    path = chart / f"files/{CRD_FILE.name}"
    earlier = yaml.safe_load(path.read_text())
    schema = earlier["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["spec"]["properties"]["upgrade"]
    path.write_text(yaml.safe_dump(earlier))
    yield chart
    cluster.system.run("apply", "--server-side", "--force-conflicts", "-f", str(CRD_FILE))


def test_the_steps_of_a_rollback_keep_the_new_fields_of_endpoints(cluster: ChartCluster, earlier_chart: Path) -> None:
    """docs/how-to/upgrade.md: `helm rollback` alone would remove them, because it rolls the CRD back, too."""
    values = "--set=image.repository=x", f"--set=watchNamespaces={{{cluster.endpoints.namespace}}}"

    def helm(*arguments: str) -> None:
        done = cluster.helm(*arguments)
        assert done.returncode == 0, done.stderr

    def mode() -> str:
        """The mode that the API server returns."""
        found = cluster.endpoints.get("iep", "one") or {"spec": {}}
        return str(found["spec"].get("upgrade", {}).get("mode", "absent"))

    cluster.system.run("label", "crd", CRD, "app.kubernetes.io/managed-by=Helm")
    cluster.take_over_crd("first")
    helm("install", "first", str(earlier_chart), "--force-conflicts", *values)
    helm("upgrade", "first", str(CHART), *values)
    new = endpoint(replicas=0, upgrade={"mode": "OnChange"})

    def stored() -> bool:
        cluster.endpoints.apply(new, "--validate=false")
        return mode() == "OnChange"

    wait_for(stored, "the API server knows the new field")
    helm("upgrade", "first", str(earlier_chart), *values, "--set=crds.install=false")
    cluster.endpoints.run("annotate", "iep", "one", "a=b")
    assert mode() == "OnChange", "the new CRD stays"
    helm("upgrade", "first", str(CHART), *values)
    assert mode() == "OnChange"
    helm("rollback", "first", "1")
    wait_for(lambda: mode() == "absent", "a rollback alone removes the field")


KEPT = [("deployment", "one"), ("service", "one"), ("secret", "one-api-key"), ("secret", "one-control")]


def find_child(kubectl: Kubectl, kind: str, name: str) -> Manifest:
    """The fields of a child that must not change: its identity, its keys, its pods."""
    found = kubectl.get(kind, name) or {}
    template = (found.get("spec") or {}).get("template")
    return {"uid": found["metadata"]["uid"], "data": found.get("data"), "template": template}


def replicas_of(kubectl: Kubectl) -> int:
    return int((kubectl.get("deployment", "one") or {})["spec"]["replicas"])
