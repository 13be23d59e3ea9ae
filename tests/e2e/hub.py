"""A stand-in for the Hugging Face hub: serves one folder as one repository, to the real huggingface_hub.

Only the standard library is used, so that it runs in a pod under plain python3:

    python3 hub.py --repository org/name --folder /model --token hf_example --port 8080

A client that sets HF_ENDPOINT to it gets the files with the token; without it the hub's answer for a gated repository,
and 404 for another repository.
"""

import argparse
import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The one commit of the repository; the branch main points to it."""

CHUNK = 1 << 16

LARGE = (".safetensors", ".bin", ".pt")
"""Endings of files that the hub keeps in its storage for large files, by their SHA-256."""


@dataclass
class Faults:
    """The faults. Counts decrease; only one test uses them, so there is no lock."""

    cut_after_bytes: int = 0
    cuts: int = 0
    """How many answers with a large file end after cut_after_bytes, with the connection."""
    corrupt: int = 0
    """How many answers with a large file have a wrong last byte."""
    status: int = 0
    """Every answer is this error."""
    bytes_per_second: float = 0.0
    """The speed of each response; 0: unlimited."""
    ranges: list[tuple[str, int]] = field(default_factory=list)
    """(file, first byte) of every answer with a large file: for checks afterwards."""


@dataclass(frozen=True)
class Repository:
    """The served repository. An empty token makes it public."""

    name: str
    folder: Path
    token: str

    @cached_property
    def etags(self) -> dict[str, str]:
        """File -> the hub's ETag: the SHA-256 of a large file, git's id of another."""
        return {
            name: _sha256(self.folder / name) if name.endswith(LARGE) else _git_id(self.folder / name)
            for name in self.files
        }

    @cached_property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def info(self) -> dict[str, object]:
        """The answer of /api/models/<name>."""
        siblings = [self._sibling(name) for name in self.files]
        return {
            "_id": "0",
            "id": self.name,
            "modelId": self.name,
            "sha": COMMIT,
            "private": False,
            "siblings": siblings,
        }

    def _sibling(self, name: str) -> dict[str, object]:
        size, etag = (self.folder / name).stat().st_size, self.etags[name]
        if name.endswith(LARGE):
            lfs = {"sha256": etag, "size": size, "pointerSize": 134}
            return {"rfilename": name, "size": size, "blobId": etag[:40], "lfs": lfs}
        return {"rfilename": name, "size": size, "blobId": etag}

    def tree(self) -> list[dict[str, object]]:
        """The answer of /api/models/<name>/tree/<revision>."""
        return [
            {"type": "file", "path": name, "size": (self.folder / name).stat().st_size, "oid": self.etags[name][:40]}
            for name in self.files
        ]


@dataclass(frozen=True)
class Refusal(Exception):
    """An error as the hub gives it: the code in X-Error-Code decides what huggingface_hub raises."""

    status: int
    code: str


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], repository: Repository, faults: Faults | None = None) -> None:
        super().__init__(address, HubHandler)
        self.repository = repository
        self.faults = faults or Faults()


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        repository = self.server.repository
        path = unquote(urlsplit(self.path).path)
        api, files = f"/api/models/{repository.name}", f"/{repository.name}/resolve/"
        try:
            if path == api or path.startswith(f"{api}/"):
                self._admit()
                self._send_json(self._api(path.removeprefix(api).strip("/")))
            elif path.startswith(files):
                self._admit()
                revision, _, name = path.removeprefix(files).partition("/")
                self._send_file(revision, name)
            else:
                raise Refusal(404, "RepoNotFound")
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code} if refusal.code else {}
            self._send_json({"error": refusal.code}, refusal.status, headers)

    do_HEAD = do_GET

    def _admit(self) -> None:
        if status := self.server.faults.status:
            raise Refusal(status, "")
        token = self.server.repository.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            raise Refusal(401, "GatedRepo")

    def _api(self, rest: str) -> object:
        repository = self.server.repository
        verb, _, revision = rest.partition("/")
        if revision.partition("/")[0] not in ("", "main", COMMIT):
            raise Refusal(404, "RevisionNotFound")
        answers = {"": repository.info, "revision": repository.info, "tree": repository.tree}
        if verb not in answers:
            raise Refusal(404, "EntryNotFound")
        return answers[verb]()

    def _send_json(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_file(self, revision: str, name: str) -> None:
        repository = self.server.repository
        if revision not in ("main", COMMIT):
            raise Refusal(404, "RevisionNotFound")
        if name not in repository.files:
            raise Refusal(404, "EntryNotFound")
        with (repository.folder / name).open("rb") as file:
            size = file.seek(0, 2)
            unit, _, span = self.headers.get("Range", "").partition("=")
            first, _, last = span.partition("-") if unit == "bytes" else ("", "", "")
            start = int(first) if first else 0
            end = min(int(last), size - 1) if last else size - 1
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            self.send_header("Content-Length", str(end + 1 - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", f'"{repository.etags[name]}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command != "HEAD":
                file.seek(start)
                self._send_bytes(name, start, file.read(end + 1 - start))

    def _send_bytes(self, name: str, start: int, content: bytes) -> None:
        faults = self.server.faults
        if name.endswith(LARGE):
            faults.ranges.append((name, start))
            if faults.cuts:
                faults.cuts -= 1
                self.wfile.write(content[: faults.cut_after_bytes])
                self.close_connection = True
                return
            if faults.corrupt:
                faults.corrupt -= 1
                content = content[:-1] + bytes([content[-1] ^ 1])
        for position in range(0, len(content), CHUNK):
            self.wfile.write(content[position : position + CHUNK])
            if faults.bytes_per_second:
                time.sleep(CHUNK / faults.bytes_per_second)


def _git_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", required=True, metavar="ORG/NAME")
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--token", default="", help="token that every client needs; if empty, the repository is public")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", default=8080, type=int)
    parser.add_argument("--bytes-per-second", default=0.0, type=float, help="speed of each answer; 0: unlimited")
    options = parser.parse_args()
    hub = Hub((options.host, options.port), Repository(options.repository, options.folder, options.token))
    hub.faults.bytes_per_second = options.bytes_per_second
    print(f"serving {options.folder} as {options.repository} on port {options.port}", file=sys.stderr, flush=True)
    hub.serve_forever()


if __name__ == "__main__":
    main()
