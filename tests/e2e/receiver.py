"""A receiver of webhooks, on port 8080. Run by run_helper; prints the body of each request on a line."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sys.stdout.write(f"{body.decode()}\n")  # in one write, because requests come at the same time
        sys.stdout.flush()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing else."""


ThreadingHTTPServer(("", 8080), Receiver).serve_forever()
