"""Heads of HTTP/1.1 messages: a client's request, the request for a pod, and the gateway's own answers.

One connection carries one request. So left-over bytes are never read as another request, and the end of the connection
is the end of the answer.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from forebay_protocol import pod, request_id
from forebay_protocol.api_key import read_key

REQUEST_ID = request_id.HEADER.encode()
WORKER_ID = pod.WORKER_ID.encode()

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Headers for this hop only (RFC 9110, 7.6.1). Content-Length is written again, and Expect has been answered."""

_DROPPED = HOP_BY_HOP | {b"content-length", b"expect", b"http2-settings"}

_KEYS = frozenset({b"authorization", b"x-api-key"})

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: .*)?")
_OF_ANSWERS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"upgrade"})


@dataclass(frozen=True)
class Head:
    """A request's head. `target` and the names in `headers` are unchanged from the client."""

    method: str
    target: bytes
    version: str
    headers: Sequence[tuple[bytes, bytes]]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")

    def get(self, name: bytes) -> str:
        """The first value of a header, by its name in lower case; "" if there is none."""
        return next((value.decode("latin-1").strip() for key, value in self.headers if key.lower() == name), "")

    @property
    def connection(self) -> frozenset[bytes]:
        """The tokens of all Connection headers, in lower case: `upgrade`, `close`, names of headers for this hop."""
        values = (value for name, value in self.headers if name.lower() == b"connection")
        return frozenset(word.strip().lower() for value in values for word in value.split(b","))

    @property
    def is_web_socket(self) -> bool:
        """Whether the request asks for a web socket (RFC 6455, 4.2.1)."""
        asks = self.method == "GET" and self.get(b"upgrade").lower() == "websocket"
        return asks and self.version == "1.1" and b"upgrade" in self.connection

    @property
    def has_body(self) -> bool:
        """Whether the headers announce a body."""
        return self.get(b"content-length") not in ("", "0") or bool(self.get(b"transfer-encoding"))

    @property
    def is_preflight(self) -> bool:
        """Whether it is a browser's CORS preflight, which has no key."""
        return self.method == "OPTIONS" and bool(self.get(b"access-control-request-method"))

    @property
    def key(self) -> str:
        """The API key from any of the headers that clients use; "" for none."""
        return read_key(self.get(b"authorization"), self.get(b"x-api-key"))


def render_request(head: Head, target: bytes, size: int, *, web_socket: bool = False, keys: bool = True) -> bytes:
    """Render the head of a request for a pod: the client's headers in their order, without hop-by-hop headers.

    Args:
        size: the bytes of the body.
        keys: whether the pod gets the API key. A key without a scheme gets `Bearer`.
    """
    dropped = _DROPPED | (head.connection - {b"host"}) | (frozenset() if keys else _KEYS)
    lines = [f"{head.method} ".encode() + target + f" HTTP/{head.version}".encode()]
    for name, value in head.headers:
        if (lower := name.lower()) not in dropped:
            lines.append(b"%s: %s" % (name, _with_scheme(value) if lower == b"authorization" else value))
    lines += [b"connection: Upgrade", b"upgrade: websocket"] if web_socket else [b"connection: close"]
    if size or head.method in ("POST", "PUT", "PATCH"):
        lines.append(b"content-length: %d" % size)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _with_scheme(authorization: bytes) -> bytes:
    """Add `Bearer` to a key without it, as code for RunPod sends it. Pods of older releases need it."""
    words = authorization.split(maxsplit=1)
    return b"Bearer " + words[0] if len(words) == 1 and words[0].lower() != b"bearer" else authorization


def read_status(head: bytes) -> int:
    """Read the status of an answer's head.

    Raises ValueError if the bytes are not a head, or if parsers may disagree about the end of a line.
    """
    first, *others = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if not match or head.count(b"\r") != len(others) or head.count(b"\n") != len(others) or b"\0" in head:
        raise ValueError("no head of an answer")
    return int(match[1])


def end_connection(head: bytes, worker: str = "") -> bytes:
    """Change the head of an answer so that it ends the connection, and add the pod's name (`worker`) if it is known."""
    first, *lines = head.split(b"\r\n")
    lines_kept, drops = [first], False
    dropped, added = _OF_ANSWERS, [b"connection: close"]
    if worker:
        dropped, added = _OF_ANSWERS | {WORKER_ID}, [_name_worker(worker), *added]
    for line in lines:
        if not line.startswith((b" ", b"\t")):  # otherwise it continues the previous header
            drops = line.partition(b":")[0].strip().lower() in dropped
        if not drops:
            lines_kept.append(line)
    return b"\r\n".join([*lines_kept, *added])


def switch_protocols(head: bytes, worker: str = "") -> bytes:
    """Add the pod's name (`worker`), if it is known, to the head of an answer that begins a web socket."""
    return b"\r\n".join([head, _name_worker(worker)]) if worker else head


def _name_worker(worker: str) -> bytes:
    return b"%s: %s" % (WORKER_ID, worker.encode())


def replace_line(head: Head, name: bytes, value: str) -> Head:
    """The head with exactly one header of this name, with this value."""
    if [line[1] for line in head.headers if line[0].lower() == name] == [value.encode("latin-1")]:
        return head
    others = [line for line in head.headers if line[0].lower() != name]
    return Head(head.method, head.target, head.version, [*others, (name, value.encode("latin-1"))])


OPEN_TO_PAGES = ("access-control-allow-origin: *", "access-control-expose-headers: x-request-id, retry-after")
"""CORS headers for pages of other sites, as vLLM's servers send them by default."""


def render_answer(
    status: int, content: Any, headers: Sequence[tuple[str, str]] = (), *, origin: bool = False, bodiless: bool = False
) -> tuple[bytes, bytes]:
    """Render head and body of one of the gateway's own answers.

    Args:
        content: the body. Bytes are used unchanged. Any other value becomes JSON; None means no body.
        headers: further headers. Without a content-type among them, the type is JSON.
        origin: whether web pages of other sites may read the answer, as by vLLM's default.
        bodiless: whether only the head is sent, as for HEAD.
    """
    body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
    if content is not None and "content-type" not in dict(headers):
        headers = (("content-type", "application/json"), *headers)
    size = None if status == HTTPStatus.NO_CONTENT else len(body)
    return render_head(status, headers, size=size, origin=origin), b"" if bodiless else body


def render_head(status: int, headers: Sequence[tuple[str, str]], *, size: int | None, origin: bool) -> bytes:
    """Render the head of one of the gateway's own answers. `size`: the bytes of its body."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    if size is not None:
        lines.append(f"content-length: {size}")
    lines += OPEN_TO_PAGES if origin else []
    lines.append("connection: close")
    return "\r\n".join([*lines, "\r\n"]).encode()


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: %s\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\nconnection: close\r\n%s\r\n"
)
"""The head of a stream that begins before a pod has answered."""

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Render one chunk of a chunked body (RFC 9112, 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)
