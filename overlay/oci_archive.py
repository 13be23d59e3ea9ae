"""Writes an image as an archive that `docker load`, `ctr images import`, skopeo and crane read.

The archive has the OCI image layout, and beside it the older manifest.json for `docker load`. Equal files give an equal
digest: nothing in the image depends on the day, the machine or the tool.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

OCI = "application/vnd.oci.image"
EPOCH = "1970-01-01T00:00:00Z"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
"""The name of an architecture in Python -> the name in images and in Go."""


@dataclass(frozen=True)
class ImageFile:
    """A file of an image."""

    content: bytes
    executable: bool = False


def build_layer(files: Mapping[str, ImageFile]) -> bytes:
    """Build an uncompressed layer. Files and folders belong to root, and every user may read them.

    A compressed layer would depend on the compressor's version.
    """
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted({*folders, *files}):
            entry = tarfile.TarInfo(name)  # its owner is root, its time 0
            if name in folders:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                file = files[name]
                entry.size, entry.mode = len(file.content), 0o755 if file.executable else 0o644
                tar.addfile(entry, io.BytesIO(file.content))
    return stream.getvalue()


class ImageArchive:
    """An image for one or more architectures."""

    def __init__(self, layers: Mapping[str, bytes], entrypoint: list[str], labels: Mapping[str, str]) -> None:
        """`layers` has one layer for each architecture."""
        self._blobs: dict[str, bytes] = {}
        self._configs: dict[str, tuple[str, str]] = {}
        manifests = [self._add_image(name, layer, entrypoint, labels) for name, layer in sorted(layers.items())]
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}
        self._index = self._add(f"{OCI}.index.v1+json", _encode(index))

    @property
    def digest(self) -> str:
        """The digest of the image, for all its architectures: sha256:…"""
        return str(self._index["digest"])

    def write(self, target: Path, reference: str) -> None:
        """Write the archive. `reference` is the image's name, with a tag.

        `docker load` gets the architecture of this machine, or the first one if the image has none for it.
        """
        top = {**self._index, "annotations": {"io.containerd.image.name": reference}}
        files = {
            "oci-layout": _encode({"imageLayoutVersion": "1.0.0"}),
            "index.json": _encode({"schemaVersion": 2, "manifests": [top]}),
            "manifest.json": _encode([self._describe_for_docker(reference)]),
            **{_path(digest): content for digest, content in self._blobs.items()},
        }
        target.write_bytes(build_layer({name: ImageFile(content) for name, content in files.items()}))

    def _add(self, media_type: str, content: bytes) -> dict[str, object]:
        """Add a blob. Returns its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _add_image(
        self, architecture: str, layer: bytes, entrypoint: list[str], labels: Mapping[str, str]
    ) -> dict[str, object]:
        added = self._add(f"{OCI}.layer.v1.tar", layer)
        content = {
            "architecture": architecture,
            "os": "linux",
            "created": EPOCH,
            "config": {"Entrypoint": entrypoint, "User": "2000:0", "Labels": dict(labels)},
            "rootfs": {"type": "layers", "diff_ids": [added["digest"]]},
        }
        config = self._add(f"{OCI}.config.v1+json", _encode(content))
        self._configs[architecture] = str(config["digest"]), str(added["digest"])
        manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": [added]}
        descriptor = self._add(f"{OCI}.manifest.v1+json", _encode(manifest))
        return {**descriptor, "platform": {"architecture": architecture, "os": "linux"}}

    def _describe_for_docker(self, reference: str) -> dict[str, object]:
        here = this_architecture()
        config, layer = self._configs.get(here) or next(iter(self._configs.values()))
        return {"Config": _path(config), "RepoTags": [reference], "Layers": [_path(layer)]}


def this_architecture() -> str:
    """The architecture of this machine, as images name it."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _encode(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
