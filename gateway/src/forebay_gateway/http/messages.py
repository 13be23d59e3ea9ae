"""Heads of HTTP/1.1 messages: what a client sent, what goes on to a pod, what the gateway answers itself.

One connection carries one request. So nothing that is left over can ever count as another request, and the end of an
answer is the end of its connection.
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
"""What is said to this hop alone (RFC 9110, 7.6.1). The body's length is written anew, and Expect has been answered."""

_DROPPED = HOP_BY_HOP | {b"content-length", b"expect", b"http2-settings"}

_KEYS = frozenset({b"authorization", b"x-api-key"})

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: .*)?")
_OF_ANSWERS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"upgrade"})


@dataclass(frozen=True)
class Head:
    """A request's head. `target` is as the client wrote it; names of `headers` are too."""

    method: str
    target: bytes
    version: str
    headers: Sequence[tuple[bytes, bytes]]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition(b"?")[0].decode("latin-1")

    def get(self, name: bytes) -> str:
        """The first value of a header, by its name in lower case; "" where there is none."""
        return next((value.decode("latin-1").strip() for key, value in self.headers if key.lower() == name), "")

    @property
    def connection(self) -> frozenset[bytes]:
        """The words of all Connection headers, in lower case: `upgrade`, `close`, names of headers of this hop."""
        values = (value for name, value in self.headers if name.lower() == b"connection")
        return frozenset(word.strip().lower() for value in values for word in value.split(b","))

    @property
    def is_web_socket(self) -> bool:
        """Whether it asks for one (RFC 6455, 4.2.1)."""
        asks = self.method == "GET" and self.get(b"upgrade").lower() == "websocket"
        return asks and self.version == "1.1" and b"upgrade" in self.connection

    @property
    def has_body(self) -> bool:
        return self.get(b"content-length") not in ("", "0") or bool(self.get(b"transfer-encoding"))

    @property
    def is_preflight(self) -> bool:
        """Whether a browser asks what it may send (CORS), which it does without a key."""
        return self.method == "OPTIONS" and bool(self.get(b"access-control-request-method"))

    @property
    def key(self) -> str:
        """The API key, in any of the ways that clients send it; "" for none."""
        return read_key(self.get(b"authorization"), self.get(b"x-api-key"))


def render_request(head: Head, target: bytes, size: int, *, web_socket: bool = False, keys: bool = True) -> bytes:
    """The head of a request with a body of so many bytes, as a pod gets it: the client's lines in their order, but for
    what concerns the hop, and without the API key where the endpoint asks for none (`keys`), else behind `Bearer`."""
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
    """A key that came without `Bearer`, as code for RunPod sends it, with it: pods of older releases ask for it."""
    words = authorization.split(maxsplit=1)
    return b"Bearer " + words[0] if len(words) == 1 and words[0].lower() != b"bearer" else authorization


def read_status(head: bytes) -> int:
    """The status of the head of an answer.

    Raises ValueError where it is none, or a line in it ends for one reader and not for another.
    """
    first, *others = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(first)
    if not match or head.count(b"\r") != len(others) or head.count(b"\n") != len(others) or b"\0" in head:
        raise ValueError("no head of an answer")
    return int(match[1])


def end_connection(head: bytes, worker: str = "") -> bytes:
    """The head of an answer, which now says that its connection ends with it, and which pod it is of (`worker`, where
    that is known), whatever it said before."""
    first, *lines = head.split(b"\r\n")
    kept, drops = [first], False
    dropped, added = _OF_ANSWERS, [b"connection: close"]
    if worker:
        dropped, added = _OF_ANSWERS | {WORKER_ID}, [_name_worker(worker), *added]
    for line in lines:
        if not line.startswith((b" ", b"\t")):  # else it goes on with the header before
            drops = line.partition(b":")[0].strip().lower() in dropped
        if not drops:
            kept.append(line)
    return b"\r\n".join([*kept, *added])


def switch_protocols(head: bytes, worker: str = "") -> bytes:
    """The head of an answer that begins a web socket, which also says which pod it is of, where that is known."""
    return b"\r\n".join([head, _name_worker(worker)]) if worker else head


def _name_worker(worker: str) -> bytes:
    return b"%s: %s" % (WORKER_ID, worker.encode())


def replace_line(head: Head, name: bytes, value: str) -> Head:
    """The head with one header that has this value, where it was or at the end."""
    if [line[1] for line in head.headers if line[0].lower() == name] == [value.encode("latin-1")]:
        return head
    others = [line for line in head.headers if line[0].lower() != name]
    return Head(head.method, head.target, head.version, [*others, (name, value.encode("latin-1"))])


OPEN_TO_PAGES = ("access-control-allow-origin: *", "access-control-expose-headers: x-request-id, retry-after")
"""For the pages of other sites, as vLLM's servers answer them by default (CORS)."""


def render_answer(
    status: int, content: Any, headers: Sequence[tuple[str, str]] = (), *, origin: bool = False, bodiless: bool = False
) -> tuple[bytes, bytes]:
    """Head and body of an answer of the gateway's own, with JSON as its body (None: no body; bytes are JSON already, or
    what a header says). `origin`: a page of another site may read it, as with vLLM's default. `bodiless`: the head
    alone, as HEAD asks for."""
    body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
    if content is not None and "content-type" not in dict(headers):
        headers = (("content-type", "application/json"), *headers)
    size = None if status == HTTPStatus.NO_CONTENT else len(body)
    return render_head(status, headers, size=size, origin=origin), b"" if bodiless else body


def render_head(status: int, headers: Sequence[tuple[str, str]], *, size: int | None, origin: bool) -> bytes:
    """The head of such an answer with a body of so many bytes."""
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
"""Of a stream that is begun before a pod has answered."""

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a body in pieces (RFC 9112, 7.1)."""
    return b"%x\r\n%s\r\n" % (len(data), data)
