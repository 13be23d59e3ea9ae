"""An older control plane for the integration tests is chosen by a variable."""

import pytest

from cluster.programs import older_kubernetes
from cluster.programs.older_kubernetes import MODULES, VERSION_VARIABLE, build_servers, chosen_servers
from cluster.steps import StepFailed


def test_without_a_version_the_tools_of_the_cluster_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VERSION_VARIABLE, "")
    assert chosen_servers() is None


@pytest.mark.parametrize("version", ["1.2", "../go", "newest"])
def test_the_error_for_an_unknown_version_lists_the_existing_ones(version: str) -> None:
    with pytest.raises(StepFailed, match=r"1\.32"):
        build_servers(version)


def test_the_programs_report_the_version_of_their_module() -> None:
    for module in MODULES.iterdir():
        flags = older_kubernetes._linker_flags((module / "go.mod").read_text())
        major, minor = module.name.split(".")
        assert f"gitMajor={major} " in flags
        assert f"gitMinor={minor} " in flags
        assert f"gitVersion=v{module.name}." in flags
