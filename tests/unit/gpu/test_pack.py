"""The files to bring to a machine without a network, and their parts."""

from pathlib import Path

from tests.gpu.pack import distribute, lacking, read_pins

INSTALLED = """\
torch==2.11.0+cu130
numpy==2.5.2
Typing_Extensions==4.16.0
local @ file:///somewhere
"""


def test_only_missing_or_different_packages_are_packed() -> None:
    installed = read_pins(INSTALLED)
    assert installed == {"torch": "2.11.0", "numpy": "2.5.2", "typing-extensions": "4.16.0"}
    resolved = {"torch": "2.11.0", "numpy": "2.3.5", "typing-extensions": "4.16.0", "vllm": "0.26.0", "ray": "2.0"}
    assert lacking(resolved, installed, {"ray"}) == {"numpy": "2.3.5", "vllm": "0.26.0"}


def test_no_folder_is_larger_than_one_transfer(tmp_path: Path) -> None:
    files = []
    for number, size in enumerate((50, 60, 30, 30, 5)):
        files.append(tmp_path / f"{number}.whl")
        files[-1].write_bytes(b"x" * size)
    assert distribute(files, tmp_path, 60) == 3
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in sorted(tmp_path.iterdir())]
    assert sorted(sizes) == [55, 60, 60]
