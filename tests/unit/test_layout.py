"""Guards of the repository's shape."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_operator_is_no_package() -> None:
    """As a package, operator/ would hide Python's own module of that name from everything run in the checkout."""
    assert not (ROOT / "operator/__init__.py").exists()
    assert not (ROOT / "server/__init__.py").exists()


def test_no_lock_names_a_download_address() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(), lock


def test_no_large_file_is_tracked() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    large = [path for path in paths if path.exists() and path.stat().st_size > 1 << 20]
    assert large == []
