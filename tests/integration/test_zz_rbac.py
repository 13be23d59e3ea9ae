"""The operator's rights are those that it uses: the API server's log of this session is compared with the chart.

Named to come last, since it looks at what all the other tests made the operator ask for.
"""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.audit import operators_requests
from tests.integration.operator_process import CHART
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


@pytest.mark.usefixtures("operators_kubectl")
def test_the_operator_has_the_rights_that_it_uses_and_no_others(control_plane: Kubectl) -> None:
    requests = list(operators_requests(control_plane, ""))
    if not any((each.resource, each.verb) == ("deployments", "create") for each in requests):
        pytest.skip("only meaningful after the other integration tests, which make the operator work")
    rights = granted(control_plane.binary.parent / "helm")
    answered = {(each.group, each.resource, each.verb, each.namespace) for each in requests if each.code != 403}
    refused = {(each.group, each.resource, each.verb, each.namespace) for each in requests if each.code == 403}
    assert refused - answered == set(), (
        "an API server that has just started knows no rights for a moment; after it it does"
    )
    used = {(each.group, each.resource, each.verb) for each in requests}
    assert rights - used == set(), "granted and never used"
    assert used - rights == set()
