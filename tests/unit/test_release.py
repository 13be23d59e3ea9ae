"""The release that the upgrade test begins from has to be in the clone."""

from pathlib import Path

import pytest

from tests.e2e import release


def test_a_clone_without_the_commit_gives_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "upgrade-from"
    named.write_text("1" * 40)
    monkeypatch.setattr(release, "UPGRADE_FROM", named)
    found = release.read_release(tmp_path)
    assert found.images == {}
    assert "this clone lacks the commit" in found.trouble
    assert f"git fetch origin {'1' * 40}" in found.trouble
