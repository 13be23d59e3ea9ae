"""The operator's rights are those that it uses: the API server's log of this session is compared with the chart.

Named to come last, since it looks at what all the other tests made the operator ask for.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import CHART
from tests.kubectl import Kubectl

Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


def granted(helm: Path) -> set[Right]:
    """All rights that the chart gives to the operator's service account."""
    command = [str(helm), "template", "forebay", str(CHART), "--set=image.repository=x"]
    rendered = subprocess.run([*command, "--show-only=templates/rbac.yaml"], capture_output=True, text=True, check=True)
    roles = [each for each in yaml.safe_load_all(rendered.stdout) if each and "rules" in each]
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(audit: Path) -> Iterator[tuple[Right, int]]:
    """What the operator asked for, and how the API server answered."""
    for line in audit.read_text().splitlines():
        event = json.loads(line)
        about = event.get("objectRef")
        if event["user"]["username"] == "system:serviceaccount:forebay-system:forebay" and about:
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            yield (about.get("apiGroup", ""), resource, event["verb"]), event["responseStatus"]["code"]


@pytest.mark.usefixtures("operators_kubectl")
def test_the_operator_has_the_rights_that_it_uses_and_no_others(control_plane: Kubectl) -> None:
    requests = list(asked(control_plane.kubeconfig.parent / "audit.log"))
    if not any(right == ("apps", "deployments", "create") for right, _ in requests):
        pytest.skip("only meaningful after the other integration tests, which make the operator work")
    rights = granted(control_plane.binary.parent / "helm")
    assert {right for right, code in requests if code == 403} == set()
    used = {right for right, _ in requests}
    assert rights - used == set(), "granted and never used"
    assert used - rights == set()
