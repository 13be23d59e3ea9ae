"""The node image contains the images that its kubeadm requires, under the same names."""

from pathlib import Path

import pytest

from cluster import node
from cluster.steps import StepFailed


@pytest.fixture
def kubeadm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = tmp_path / "files" / "etc" / "containerd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('sandbox = "registry.example/pause:3"\n')
    monkeypatch.setattr(node, "FOLDER", tmp_path)
    program = tmp_path / "kubeadm"
    program.write_text("#!/bin/sh\nprintf 'registry.example/coredns/coredns:v1\\nregistry.example/pause:3\\n'\n")
    program.chmod(0o755)
    return program


def test_images_are_named_as_kubeadm_names_them(kubeadm: Path) -> None:
    assert node.control_plane({"kubeadm": kubeadm}) == {
        "registry.example/coredns/coredns:v1": "coredns",
        "registry.example/pause:3": "pause",
        "forebay.local/minicni:1": "minicni",
    }


def test_a_pause_image_that_containerd_would_remove_is_rejected(kubeadm: Path) -> None:
    (kubeadm.parent / "files/etc/containerd/config.toml").write_text('sandbox = "registry.example/pause:2"\n')
    with pytest.raises(StepFailed, match="does not name kubeadm's registry"):
        node.control_plane({"kubeadm": kubeadm})


def test_a_kubeadm_that_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="does not list its images"):
        node.control_plane({"kubeadm": tmp_path / "missing"})


def test_the_pod_network_image_is_read_from_its_manifest() -> None:
    manifest = (Path(node.__file__).parent / "node/files/kind/manifests/default-cni.yaml").read_text()
    assert f"image: {node.MINICNI}\n" in manifest
