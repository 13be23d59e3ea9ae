"""A receiver of webhooks, on port 8080. Run by stand_in; prints what it is told, a line for each."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(body.decode(), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing else."""


ThreadingHTTPServer(("", 8080), Receiver).serve_forever()
