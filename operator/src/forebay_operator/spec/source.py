"""Parses the address of weights: a Hugging Face ID, an image, a claim, a bucket or a path.

The parser of `spec.model` and of adapters calls it.
"""

import re
from dataclasses import dataclass
from typing import Literal

_SCHEMES: dict[str, Literal["hub", "image", "claim", "bucket"]] = {
    "hf://": "hub",
    "oci://": "image",
    "pvc://": "claim",
    "s3://": "bucket",
    "gs://": "bucket",
}
_FORMS = {
    "image": re.compile(r"[a-z0-9][a-zA-Z0-9._:/@-]*[a-zA-Z0-9]"),
    "claim": re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[A-Za-z0-9_][A-Za-z0-9._-]*)*"),
    "bucket": re.compile(r"(s3|gs)://[a-z0-9][a-z0-9._-]*[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._=+@-]*)*/?"),
    "path": re.compile(r"(/[A-Za-z0-9._-]+)+"),
    "hub": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?"),
}
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*")


@dataclass(frozen=True)
class Source:
    """Where the weights of a model or an adapter come from.

    Attributes:
        kind: `hub` (a Hugging Face ID), `image` (an image reference), `claim` (a folder in a PersistentVolumeClaim),
            `bucket` (an address that vLLM's own loader reads) or `path` (absolute, in the server image).
        source: the ID, the reference without `oci://`, the claim's name, the whole address, or the path.
        folder: the path below the root of a claim; empty for the root itself and for other kinds.
        revision: the revision in an address hf://ORG/NAME:REVISION; empty for other addresses.
    """

    kind: Literal["hub", "image", "claim", "bucket", "path"]
    source: str
    folder: str = ""
    revision: str = ""

    def path_below(self, mount: str) -> str:
        """The location in vLLM's arguments: a path if an image or a claim is mounted at `mount`, else the source
        itself."""
        if self.kind in ("image", "claim"):
            return f"{mount}/{self.folder}" if self.folder else mount
        return self.source


def parse_source(text: str) -> Source | None:
    """Read the address of weights. Returns None for an unknown form."""
    scheme = next((scheme for scheme in _SCHEMES if text.startswith(scheme)), "")
    kind = _SCHEMES[scheme] if scheme else "path" if text.startswith("/") else "hub"
    rest = text if kind == "bucket" else text.removeprefix(scheme)
    if scheme == "hf://":
        return _parse_hub_address(rest)
    if not _FORMS[kind].fullmatch(rest):
        return None
    if kind == "claim":
        claim, _, folder = rest.partition("/")
        return Source("claim", claim, folder)
    return Source(kind, rest)


def is_revision(text: str) -> bool:
    """Whether `text` can be a revision of a repository on the hub: a commit, a tag or a branch."""
    return bool(_REVISION.fullmatch(text)) and ".." not in text


def _parse_hub_address(rest: str) -> Source | None:
    """Read ORG/NAME, ORG/NAME:REVISION or ORG/NAME@REVISION.

    KServe writes the revision after a colon (storageUri), and huggingface_hub after an @ (HfFileSystem).
    """
    name, *revisions = re.split("[:@]", rest, maxsplit=1)
    if not _FORMS["hub"].fullmatch(name) or not all(map(is_revision, revisions)):
        return None
    return Source("hub", name, revision="".join(revisions))
