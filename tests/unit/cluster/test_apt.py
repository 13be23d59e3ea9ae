"""Which Debian archive a machine uses is read from its apt configuration, in either of apt's formats."""

import stat
from pathlib import Path

import pytest

from cluster import apt
from cluster.apt import Source
from cluster.steps import StepFailed

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb http://a.example/debian bookworm main contrib
deb [signed-by=/k.gpg arch=amd64] https://a.example/debian-security bookworm-security main
deb http://vendor.example/apt stable nonfree
deb-src http://a.example/debian bookworm main
"""

DEB822 = """\
Types: deb deb-src
# http://snapshot.example/debian
URIs: http://b.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k.gpg

Types: deb
URIs: https://vendor.example/node
Suites: nodistro
Components: main
"""

KEY_IN_FIELD = """\
Types: deb
URIs: http://c.example/debian
Suites: trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 deb
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            ONE_LINE,
            [
                Source("http://a.example/debian", "bookworm"),
                Source("https://a.example/debian-security", "bookworm-security"),
            ],
        ),
        (
            DEB822,
            [
                Source("http://b.example/debian", "bookworm"),
                Source("http://b.example/debian", "bookworm-updates"),
                Source("https://vendor.example/node", "nodistro"),
            ],
        ),
        (KEY_IN_FIELD, [Source("http://c.example/debian", "trixie")]),
        ("", []),
    ],
)
def test_archives_with_main_packages_are_found(text: str, expected: list[Source]) -> None:
    assert apt.sources([text]) == expected


def test_the_release_precedes_its_updates_and_other_releases_are_omitted() -> None:
    found = [Source("s", "bookworm-security"), Source("t", "trixie"), Source("n", "nodistro"), Source("d", "bookworm")]
    assert apt.of_release(found, "bookworm") == [Source("d", "bookworm"), Source("s", "bookworm-security")]


def test_the_first_entry_of_a_local_mirror_list_is_used(tmp_path: Path) -> None:
    listed = tmp_path / "debian.list"
    listed.write_text("# mirrors\nhttps://near.example/debian priority:1\nhttps://far.example/debian\n")
    assert apt.plain(f"mirror+file:{listed}") == "https://near.example/debian"
    assert apt.plain(f"mirror+file://{listed}") == "https://near.example/debian"
    assert apt.plain("http://a.example/debian") == "http://a.example/debian"


def test_nothing_is_installed_if_every_program_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "there"
    program.write_text("")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path))
    apt.need({"there": ["package"], str(program): ["other"]}, "a test")


def test_without_apt_the_error_lists_the_packages_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StepFailed) as failed:
        apt.need({"gcc": ["gcc", "libc6-dev"], "pkg-config": ["pkg-config"]}, "building runc")
    assert "building runc" in str(failed.value)
    assert "gcc libc6-dev pkg-config" in failed.value.remedy
