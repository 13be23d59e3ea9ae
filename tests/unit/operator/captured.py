"""Objects of a real cluster, which tests/e2e/capture.py wrote."""

import json
from pathlib import Path

from tests.kubectl import Manifest

DATA = Path(__file__).parent / "data"


def read_captured(name: str) -> Manifest:
    """A pod or a Deployment under its kind, what it runs on, and its events if they are stored."""
    found: Manifest = json.loads((DATA / f"{name}.json").read_text())
    return found
