"""A server on loopback that answers a client by a scenario and records its requests."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from tests.clients.answers import LISTED, Part, stream

DONE: dict[str, tuple[Part, ...]] = {
    "/v1/messages": ({"type": "text", "text": "Done."},),
    "/v1/responses": (
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
        },
    ),
}
"""The last answer."""

FOUND: Part = {"type": "text", "text": "Dams hold water: https://example.com/dams"}
"""The answer to Claude Code's separate search request, which has no tool except the search."""


class Recorder(ThreadingHTTPServer):
    """Answers with `answers`, one after another, then with DONE."""

    daemon_threads = True

    def __init__(self, answers: list[tuple[Part, ...]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = Lock()
        self.answers = answers
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, body: dict[str, Any]) -> tuple[Part, ...]:
        """The parts of the next answer."""
        if any(tool.get("type", "").startswith("web_search_") for tool in body.get("tools", ())):
            return (FOUND,)
        with self.lock:
            return self.answers.pop(0) if self.answers else DONE[path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing, because the requests are recorded."""

    def _serve(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.loads(data) if data else {}
        path = self.path.partition("?")[0]
        if self.command == "POST":
            headers = {name.lower(): value for name, value in self.headers.items()}
            kept = {"method": self.command, "path": self.path, "headers": headers, "body": body}
            self.server.requests.append(kept)
        if path in DONE:
            parts = self.server.answer(path, body)
            number = len(self.server.requests)
            self._send(200, "text/event-stream", stream(path, body["model"], number, parts))
        elif path.endswith("/count_tokens"):
            self._send(200, "application/json", b'{"input_tokens": 10}')
        elif path == "/v1/models":
            self._send(200, "application/json", json.dumps(LISTED).encode())
        else:
            self._send(404, "application/json", b'{"error": {"message": "Not found", "type": "not_found_error"}}')

    do_GET = do_POST = do_HEAD = _serve

    def _send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def recording(answers: list[tuple[Part, ...]]) -> Iterator[Recorder]:
    """A recorder that listens for as long as the context lasts."""
    recorder = Recorder(answers)
    thread = Thread(target=recorder.serve_forever)
    thread.start()
    try:
        yield recorder
    finally:
        recorder.shutdown()
        recorder.server_close()
        thread.join()
