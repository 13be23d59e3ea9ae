"""Which release of the chart owns the CRD, changed by the step of docs/lifecycle.md."""

import re

from cluster.pins import ROOT
from tests.kubectl import Kubectl

PAGE = ROOT / "docs/lifecycle.md"


def take_over_crd(kubectl: Kubectl, release: str, namespace: str) -> None:
    """Give the CRD to a release, by the command of the page with these names in it."""
    (command,) = re.findall(r"^kubectl (annotate crd .*\\\n.*)$", PAGE.read_text(), re.MULTILINE)
    for old, new in {"name=llm": f"name={release}", "=forebay-system": f"={namespace}", "\\\n": " "}.items():
        assert old in command
        command = command.replace(old, new)
    kubectl.run(*command.split())
