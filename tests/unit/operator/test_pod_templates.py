"""A release that would restart endpoints is noticed, and the changelog says so."""

import yaml

from cluster.pins import ROOT
from tests.unit.operator.pod_templates import RELEASED, TEMPLATES, render, revisions

RESTARTS, RESTARTS_NOT = "This release restarts endpoints", "This release restarts no endpoints"


def test_the_pod_templates_are_as_before() -> None:
    before, now = yaml.safe_load(TEMPLATES.read_text()), yaml.safe_load(TEMPLATES.read_text()) | render()
    changed = [name for name in {**before, **now} if before.get(name) != _as_yaml(now[name])]
    assert changed == [], (
        "the pod template has changed, so an upgrade to this release restarts all endpoints, one after the other. "
        "If that is intended, run python -m tests.unit.operator.pod_templates, look at the diff, and write "
        f'"{RESTARTS}: WHY" into CHANGELOG.md, under Unreleased, Upgrading'
    )


def test_the_changelog_says_whether_the_release_restarts_endpoints() -> None:
    released, now = yaml.safe_load(RELEASED.read_text()), revisions(render())
    changed = [name for name, revision in released.items() if now.get(name) != revision]
    unreleased = (ROOT / "CHANGELOG.md").read_text().partition("## Unreleased")[2].partition("\n## ")[0]
    upgrading = unreleased.partition("### Upgrading")[2].partition("\n### ")[0]
    wanted, wrong = (RESTARTS, RESTARTS_NOT) if changed else (RESTARTS_NOT, RESTARTS)
    assert f"- {wanted}" in upgrading, (
        f'CHANGELOG.md must say "{wanted}" under Unreleased, Upgrading; changed: {changed}'
    )
    assert f"- {wrong}" not in upgrading


def _as_yaml(template: object) -> object:
    return yaml.safe_load(yaml.safe_dump(template))
