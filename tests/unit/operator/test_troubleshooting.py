"""The page that users read when something is wrong."""

from cluster.pins import ROOT
from docs.generators.troubleshooting import build_page
from forebay_operator.status.diagnosis import FAILURES
from forebay_operator.status.readiness import STATES, STEPS


def test_the_page_is_as_the_tables() -> None:
    assert (ROOT / "docs/troubleshooting.md").read_text() == build_page(), "make docs writes it"


def test_every_reason_stands_on_the_page_with_what_to_do() -> None:
    page = build_page()
    for name in (*STATES, *(reason.name for reason in FAILURES)):
        assert f"| `{name}`" in page
    assert "{" not in page.partition("## Where a start")[0]


def test_no_reason_means_two_things() -> None:
    assert not {reason.name for reason in FAILURES} & set(STATES)
    assert {"Scheduling", "PullingImage", "Downloading", "LoadingWeights", "Compiling", "WarmingUp"} < STEPS
    assert not {"Ready", "Pending", "Degraded", "NotAnswering", "Suspended"} & STEPS
