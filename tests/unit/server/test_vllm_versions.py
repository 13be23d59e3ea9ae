"""Which versions of vLLM the server starts with."""

import pytest

from cluster.pins import ROOT
from forebay_protocol.pod import EXIT_CONFIGURATION
from forebay_server import vllm_compat
from forebay_server.config.vllm_versions import VERSIONS, check_version, render_versions
from forebay_server.failure import StartError


@pytest.mark.parametrize(
    ("version", "warning"),
    [
        ("0.26.0", ""),
        ("0.32.0+cpu", ""),
        ("v0.32.1", ""),
        ("0.33.0rc1.dev7+g1234", "vLLM 0.33.0rc1.dev7+g1234 was not tested with this server."),
        ("0.29.0", "vLLM 0.29.0 was not tested with this server. Tested versions: 0.26, 0.32."),
        ("1.0", "vLLM 1.0 was not tested with this server."),
        ("unknown", "The version of vLLM, 'unknown', is not known. Tested versions: 0.26, 0.32."),
    ],
)
def test_an_untested_version_starts_with_a_warning(version: str, warning: str) -> None:
    found = check_version(version)
    assert found.startswith(warning)
    assert bool(found) is bool(warning)


@pytest.mark.parametrize(
    ("version", "reason", "message"),
    [
        ("0.25.1", "UnsupportedVLLM", "The image has vLLM 0.25.1, and the server needs 0.26 or later."),
        ("0.9.2", "UnsupportedVLLM", "The image has vLLM 0.9.2, and the server needs 0.26 or later."),
        ("", "NoVLLM", "The image has no vLLM."),
    ],
)
def test_a_version_that_cannot_work_is_refused_with_a_reason(version: str, reason: str, message: str) -> None:
    with pytest.raises(StartError) as refused:
        check_version(version)
    failure = refused.value.failure
    assert (failure.reason, failure.message, failure.exit_status) == (reason, message, EXIT_CONFIGURATION)
    assert "docs/server-images.md" in failure.remedy


def test_the_versions_have_no_gap() -> None:
    following = [*VERSIONS[1:], None]
    for versions, after in zip(VERSIONS, following, strict=True):
        assert versions.first <= versions.last
        assert after is None or after.first == (versions.last[0], versions.last[1] + 1)
    assert {each.support for each in VERSIONS} == {"tested", "untested", "refused"}


def test_the_page_has_the_table() -> None:
    assert render_versions() in (ROOT / "docs/server-images.md").read_text()


def test_an_environment_without_vllm_has_no_version() -> None:
    assert vllm_compat.installed_version() == ""
