"""Helm's renderings of the chart, for tests of its values."""

import subprocess
from collections.abc import Callable

from cluster.pins import ROOT
from tests.kubectl import Manifest

CHART = ROOT / "charts/forebay"
Helm = Callable[..., subprocess.CompletedProcess[str]]

REPOSITORY = "image.repository=registry.example/forebay-operator"


def read_container(rendered: list[Manifest], deployment: str) -> Manifest:
    """The one container of a Deployment."""
    (found,) = [
        each for each in rendered if each and each["kind"] == "Deployment" and each["metadata"]["name"] == deployment
    ]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return dict(container)
