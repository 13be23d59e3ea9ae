"""An image is named by its inputs: its base, its Dockerfile and the files that it copies."""

import tarfile
from pathlib import Path

import pytest

from cluster import debian, docker, images, pins
from cluster.images import IMAGES, Image
from cluster.steps import StepFailed


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the Dockerfile of one image, in which no public image was pulled."""
    monkeypatch.setattr(pins, "ROOT", tmp_path)
    monkeypatch.setattr(docker, "has", lambda _: False)
    monkeypatch.setattr(debian, "reference", lambda: "forebay.local/debian:1")
    (tmp_path / "Dockerfile.app").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY app/src app/*.txt /app/\n")
    (tmp_path / "app" / "src").mkdir(parents=True)
    (tmp_path / "app" / "src" / "main.py").write_text("1")
    (tmp_path / "app" / "a.txt").write_text("a")
    (tmp_path / "app" / "README.md").write_text("not copied")
    monkeypatch.setitem(IMAGES, "app", Image("app", "debian", tag="1"))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COPY a b /c/", ["a", "b"]),
        ("COPY --chown=0:0 a /c", ["a"]),
        ("copy a \\\n  b \\\n  /c/", ["a", "b"]),
        ("COPY --from=build /out /c", []),
        ("ADD a.tar /c", ["a.tar"]),
        ("RUN echo COPY a b\n# COPY a b", []),
    ],
)
def test_the_copied_files_are_read_from_the_dockerfile(text: str, expected: list[str]) -> None:
    assert images.sources(text) == expected


def test_the_context_is_the_dockerfile_and_the_files_that_it_copies(checkout: Path) -> None:
    names = [str(path.relative_to(checkout)) for path in images.inputs(IMAGES["app"])]
    assert names == ["Dockerfile.app", "app/src/main.py", "app/a.txt"]


def test_only_a_changed_input_changes_the_reference(checkout: Path) -> None:
    before = images.reference("app")
    (checkout / "app" / "README.md").write_text("changed")
    assert images.reference("app") == before
    (checkout / "app" / "src" / "main.py").write_text("2")
    assert images.reference("app") != before


def test_a_changed_base_changes_the_reference(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.reference("app")
    monkeypatch.setattr(debian, "reference", lambda: "forebay.local/debian:2")
    assert images.reference("app") != before


def test_a_pulled_public_image_replaces_a_built_one(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMAGES, "app", Image("app", "debian", official="python:3-slim"))
    assert images.reference("app").startswith("forebay.local/app:")
    monkeypatch.setattr(docker, "has", lambda name: name == "python:3-slim")
    assert images.reference("app") == "python:3-slim"


def test_a_machine_without_a_list_of_authorities_has_a_base_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "AUTHORITIES", tmp_path / "authorities")
    without = debian.reference()
    (tmp_path / "authorities").write_text("one")
    assert without != debian.reference()


def test_pods_use_a_fixed_tag_if_one_is_set(checkout: Path) -> None:
    assert images.named(IMAGES["app"]) == "forebay.local/app:1"


def test_a_missing_dockerfile_is_named(checkout: Path) -> None:
    (checkout / "Dockerfile.app").unlink()
    with pytest.raises(StepFailed, match=r"app needs .*Dockerfile\.app"):
        images.reference("app")


def test_bases_are_built_before_their_images() -> None:
    groups = images.levels(IMAGES.values())
    made: set[str] = {"debian", ""}
    for group in groups:
        assert {image.base for image in group} <= made
        made |= {image.name for image in group}
    assert made == {"debian", "", *IMAGES}


def test_building_one_image_includes_its_bases() -> None:
    assert {image.name for image in images.with_bases(["server"])} == {"server", "vllm-cpu", "python"}


def test_the_demo_runs_a_plain_vllm_and_a_self_contained_server_is_for_tests() -> None:
    demo = {image.name for image in images.wanted(tests=False) if image.runs}
    assert demo == {"vllm-cpu", "operator", "forebay-server", "smollm2-135m-instruct", "valkey"}
    assert not {"server", "server-canned"} & images.images(tests=True).keys(), "a change of the server loads a few MB"
    assert {image.name for image in images.with_bases(["server-canned"])} == {
        "server-canned", "vllm-canned", "vllm-cpu", "python",
    }  # fmt: skip


def test_two_images_share_the_dockerfile_of_the_server() -> None:
    copied = images.inputs(IMAGES["server-canned"])
    assert copied[0] == pins.ROOT / "Dockerfile.server"
    assert copied == images.inputs(IMAGES["server"])


def test_only_a_change_of_the_server_changes_the_overlay(checkout: Path) -> None:
    for project in ("server", "protocol"):
        (checkout / project / "src").mkdir(parents=True)
        (checkout / project / "pyproject.toml").write_text("[project]\n")
    before = images.reference("forebay-server")
    assert before.startswith("forebay.local/forebay-server:")
    (checkout / "app/a.txt").write_text("another part")
    assert images.reference("forebay-server") == before
    (checkout / "server/src/app.py").write_text("changed")
    assert images.reference("forebay-server") != before


def test_only_tests_get_the_test_images() -> None:
    assert "valkey" in {image.name for image in images.wanted(tests=False)}, "the demo has jobs"
    assert "client" not in {image.name for image in images.wanted(tests=False)}
    assert "client" in {image.name for image in images.wanted(tests=True)}
    assert "vllm-tests" not in {image.name for image in images.wanted(tests=True)}, "only by its name"


def test_a_build_context_carries_nothing_of_this_machine(tmp_path: Path) -> None:
    script, data = tmp_path / "script", tmp_path / "data"
    for path, mode in ((script, 0o700), (data, 0o600)):
        path.write_text(path.name)
        path.chmod(mode)
    docker.context([("bin/script", script), ("data", data)], tmp_path / "context.tar")
    with tarfile.open(tmp_path / "context.tar") as tar:
        entries = {info.name: info for info in tar}
    assert {name: info.mode for name, info in entries.items()} == {"bin/script": 0o755, "data": 0o644}
    assert {(info.uid, info.uname, info.mtime) for info in entries.values()} == {(0, "", 0)}
