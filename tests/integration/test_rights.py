"""The operator has exactly the permissions that it uses: a later stage compares the logs of all
integration tests' API servers with the chart."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster.tools import host_tools
from tests.integration.audit import KEPT_LOGS, read_log
from tests.integration.operator_process import CHART

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


@pytest.mark.rights
def test_the_operator_has_exactly_the_permissions_that_it_uses() -> None:
    folder = os.environ.get(KEPT_LOGS)
    assert folder, "run it by `make integration`: it reads what the API servers of all integration tests logged"
    requests = [each for log in sorted(Path(folder).glob("*.audit")) for each in read_log(log, "")]
    assert any((each.resource, each.verb) == ("deployments", "create") for each in requests), "no operator has run"
    rights = granted(host_tools() / "helm")
    answered = {(each.group, each.resource, each.verb, each.namespace) for each in requests if each.code != 403}
    refused = {(each.group, each.resource, each.verb, each.namespace) for each in requests if each.code == 403}
    assert refused - answered == set(), "a new API server has no permissions for a moment, and has them later"
    used = {(each.group, each.resource, each.verb) for each in requests}
    assert rights - used == set(), "granted and never used"
    assert used - rights == set()
