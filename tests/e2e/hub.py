"""A stand-in for the Hugging Face hub: serves one folder as one repository, to the real huggingface_hub.

Only the standard library is used, so that it runs in a pod under plain python3:

    python3 hub.py --repository org/name --folder /model --token hf_example --port 8080

A client that sets HF_ENDPOINT to it gets the files with the token; without it the hub's answer for a gated repository,
and for another repository the hub's answer that there is none.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The one commit of the repository; the branch main points to it."""

CHUNK = 1 << 20


@dataclass(frozen=True)
class Repository:
    """What is served. An empty token makes it public."""

    name: str
    folder: Path
    token: str

    @cached_property
    def etags(self) -> dict[str, str]:
        """File -> SHA-256 of its content, which is the hub's ETag for large files."""
        return {name: _sha256(self.folder / name) for name in self.files}

    @cached_property
    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def info(self) -> dict[str, object]:
        """The answer of /api/models/<name>."""
        siblings = [{"rfilename": name} for name in self.files]
        return {
            "_id": "0",
            "id": self.name,
            "modelId": self.name,
            "sha": COMMIT,
            "private": False,
            "siblings": siblings,
        }

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

    def __init__(self, address: tuple[str, int], repository: Repository) -> None:
        super().__init__(address, HubHandler)
        self.repository = repository


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
            self._send_json({"error": refusal.code}, refusal.status, {"X-Error-Code": refusal.code})

    do_HEAD = do_GET

    def _admit(self) -> None:
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
                for position in range(start, end + 1, CHUNK):
                    self.wfile.write(file.read(min(CHUNK, end + 1 - position)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", required=True, metavar="ORG/NAME")
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--token", default="", help="asked of every client; none: the repository is public")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", default=8080, type=int)
    options = parser.parse_args()
    hub = Hub((options.host, options.port), Repository(options.repository, options.folder, options.token))
    print(f"serving {options.folder} as {options.repository} on port {options.port}", file=sys.stderr, flush=True)
    hub.serve_forever()


if __name__ == "__main__":
    main()
