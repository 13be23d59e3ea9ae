"""Every pod runs under OpenShift's rules: operator, gateways, Valkey, and a model, to zero and back.

The test installs the chart with values-openshift.yaml, and afterwards again without it.
"""

from collections.abc import Iterator

import pytest
import yaml

from cluster.pins import ROOT
from tests.e2e.forebay import CHART, SYSTEM, Clients, images, install_chart, wait_for_key
from tests.e2e.scale_to_zero import QUICK, address, is_idle, pods
from tests.kubectl import Kubectl, Manifest
from tests.openshift import FIRST_USER, openshift_rules

pytestmark = pytest.mark.installs


@pytest.fixture
def restricted(installed: Kubectl, kubectl: Kubectl) -> Iterator[Kubectl]:
    """The test's namespace and that of the chart under the rules, with the chart for them."""
    repository, tag = images()["valkey"].rsplit(":", 1)
    image = "registry=", f"repository={repository}", f"tag={tag}"
    valkey = ["--set=valkey.create=true,valkey.storage=", *(f"--set=valkey.image.{each}" for each in image)]
    with openshift_rules(installed, SYSTEM, kubectl.namespace):
        install_chart(installed, *valkey, f"--values={CHART / 'values-openshift.yaml'}")
        yield kubectl
    install_chart(installed)


def users_of(found: list[Manifest]) -> set[int]:
    return {pod["spec"]["securityContext"]["runAsUser"] for pod in found if "deletionTimestamp" not in pod["metadata"]}


def test_all_pods_run_as_a_user_of_their_namespace(restricted: Kubectl, clients: Clients) -> None:
    system = restricted.within(SYSTEM)
    for workload in ("deployment/forebay", "deployment/forebay-gateway", "statefulset/forebay-valkey"):
        system.run("rollout", "status", workload, "--timeout=300s")
    manifest: Manifest = yaml.safe_load((ROOT / "examples/smollm2.yaml").read_text())
    manifest["spec"] |= {"replicas": 0, "scaling": {"idleTimeout": "5s", "stabilization": QUICK}}
    restricted.apply(manifest)
    is_idle(restricted, "smollm2")
    base, key, _ = address(restricted, "smollm2")
    wait_for_key(clients, base, key)
    env = {"OPENAI_BASE_URL": base, "OPENAI_API_KEY": key}
    for start in range(2):
        if start:
            is_idle(restricted, "smollm2")
        answer = clients.run_inside(ROOT / "examples/ask.py", "smollm2", "What is the capital of France?", env=env)
        assert "Paris" in answer
        assert users_of(pods(restricted, "smollm2")) == {FIRST_USER}
    assert users_of(system.list("pods")) == {FIRST_USER}
    restricted.delete("iep", "smollm2")
