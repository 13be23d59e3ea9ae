"""Whether files of the model are on their way."""

from pathlib import Path

from forebay_server.downloads import in_progress


def test_an_incomplete_file_means_a_download(tmp_path: Path) -> None:
    assert not in_progress(tmp_path, "org/name")
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").touch()
    assert not in_progress(tmp_path, "org/name")
    (blobs / "def.incomplete").touch()
    assert in_progress(tmp_path, "org/name")
    assert not in_progress(tmp_path, "org/other")
