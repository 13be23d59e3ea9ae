"""Helm itself refuses values that can't work, with a sentence; it needs no cluster for that."""

import subprocess
from collections.abc import Callable

import pytest

from cluster.pins import ROOT
from cluster.tools import host_tools

CHART = ROOT / "charts/forebay"
Helm = Callable[..., subprocess.CompletedProcess[str]]

REPOSITORY = "image.repository=registry.example/forebay-operator"


@pytest.fixture(scope="module")
def helm(run_cluster: Callable[..., None]) -> Helm:
    run_cluster("tools")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(host_tools() / "helm"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("logLevel=LOUD", "at '/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("image.pullPolicy=Maybe", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("server.pullPolicy=Maybe", "at '/server/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("loglevel=INFO", "additional properties 'loglevel' not allowed"),
        ("server.image=x", "at '/server': additional properties 'image' not allowed"),
        ("crds.install=never", "at '/crds/install': got string, want boolean"),
        ("image.repository=", "image.repository is needed: no image is published yet; build Dockerfile.operator"),
    ],
)
def test_values_that_cannot_work_are_refused_with_a_sentence(helm: Helm, values: str, sentence: str) -> None:
    refused = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", f"--set={values}")
    assert refused.returncode != 0
    assert sentence in refused.stderr


def test_the_operator_gets_the_server_images_as_they_are(helm: Helm) -> None:
    rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", "--set=server.cpuImage=r/server:1")
    assert "- --gpu-image=\n" in rendered.stdout
    assert "- --cpu-image=r/server:1\n" in rendered.stdout


def test_helm_finds_nothing_to_mend(helm: Helm) -> None:
    linted = helm("lint", "--strict", str(CHART), f"--set={REPOSITORY}")
    assert linted.returncode == 0, linted.stdout + linted.stderr
