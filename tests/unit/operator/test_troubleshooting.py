"""The troubleshooting page."""

import re

from cluster.pins import ROOT
from docs.generators.reference import MAX_CELL
from docs.generators.symptoms import SYMPTOMS
from docs.generators.troubleshooting import build_page
from forebay_operator.status.diagnosis import FAILURES
from forebay_operator.status.readiness import STATES, STEPS
from forebay_server.lifecycle.diagnosis import RULES


def test_the_page_matches_the_tables() -> None:
    assert (ROOT / "docs/troubleshooting.md").read_text() == build_page(), "make docs writes it"


def test_every_reason_is_on_the_page_with_a_remedy() -> None:
    page = build_page()
    for name in (*STATES, *(reason.name for reason in FAILURES)):
        assert f"| `{name}`" in page
    assert "{" not in page.partition("## Failure reasons")[2].partition("## Startup progress")[0]


def test_no_cell_is_too_long() -> None:
    rows = [line for line in build_page().splitlines() if line.startswith("| ")]
    assert [cell for row in rows for cell in row.strip("|").split(" | ") if len(cell.strip()) > MAX_CELL] == []


def test_the_symptoms_link_to_existing_reasons() -> None:
    known = {*STATES, *(reason.name for reason in FAILURES), *(rule.reason for rule in RULES)}
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]?\w*)`", SYMPTOMS))
    assert named - known == {"EnvRecognized", "RouteReady", "KeyReplaced"}, "conditions and an event"
    assert len(named) > 20


def test_the_symptoms_quote_existing_messages() -> None:
    source = (ROOT / "operator/src/forebay_operator/status/start_progress.py").read_text()
    quoted = re.findall(r'^- "([^"]+)"', SYMPTOMS, re.MULTILINE)
    assert len(quoted) == 3
    assert [text for text in quoted if text not in source] == []


def test_every_reason_has_one_meaning() -> None:
    assert not {reason.name for reason in FAILURES} & set(STATES)
    assert {"Scheduling", "PullingImage", "Downloading", "LoadingWeights", "Compiling", "WarmingUp"} < STEPS
    assert not {"Ready", "Pending", "Degraded", "NotAnswering", "Suspended"} & STEPS
