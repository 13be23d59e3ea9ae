"""A receiver of webhooks in a thread."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER_SECONDS = 20.0
"""After which it answers although it may not."""


@dataclass
class WebhookReceiver:
    """`received` has the `webhook-id` and the JSON of each request. It answers 200 once `may_answer` is set."""

    url: str
    received: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)
    may_answer: threading.Event = field(default_factory=threading.Event)


@contextmanager
def receiving_webhooks() -> Iterator[WebhookReceiver]:
    """Listen on loopback for as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.put((self.headers["webhook-id"], json.loads(body)))
            receiver.may_answer.wait(ANSWER_SECONDS)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = WebhookReceiver(f"http://127.0.0.1:{server.server_port}/done")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield receiver
        finally:
            receiver.may_answer.set()
            server.shutdown()
