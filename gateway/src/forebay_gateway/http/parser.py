"""Parses one request from the bytes of a connection, within limits, with httptools (strict llhttp).

The client connection calls it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import httptools

from forebay_gateway.http import errors
from forebay_gateway.http.messages import Head
from forebay_protocol.errors import ApiError

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""The accepted methods. CONNECT and TRACE are for proxies; llhttp also accepts the methods of RTSP and WebDAV."""

_REQUEST_LINE = re.compile(rb"[A-Z]+ [!-~\x80-\xff]+ HTTP/1\.[01]\r?\n")
"""Stricter than llhttp, which also accepts several spaces, HTTP/2.0 and RTSP/1.0."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(:[0-9]*)?")
"""RFC 9110, 7.2."""

_UNREPEATABLE = (b"host", b"authorization", b"x-api-key")
"""Headers that must not be repeated: two servers might then read two different requests."""

_ABOUT_BODY = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True)
class BodyLimit:
    """The maximum bytes of a request's body, and the error for a larger one."""

    bytes: int
    error: ApiError


class RequestReader:
    """Reads a request from the bytes that `feed` gets. `head` is set once the head is complete.

    `complete` is true once the body is complete, too.

    `body_limit` returns the limit of the body for a head.
    """

    def __init__(self, head_bytes: int, body_limit: Callable[[Head], BodyLimit]) -> None:
        self.head: Head | None = None
        self.complete = False
        self.body = bytearray()
        self._head_bytes = head_bytes
        self._find_limit = body_limit
        self._limit: BodyLimit | None = None
        self._received = 0
        self._seen = 0
        self._line = b""
        self._target = b""
        self._followed = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpRequestParser(self)

    @property
    def began(self) -> bool:
        """Whether any byte has arrived."""
        return self._seen > 0

    def feed(self, data: bytes) -> None:
        """Add bytes. Bytes after a complete request are dropped.

        Raises Refused: the bytes are not valid HTTP, or exceed a limit.
        """
        if self.complete:
            return
        self._seen += len(data)
        self._check_first_line(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._followed or (self.head and self.head.is_web_socket):
                self.complete = True
            elif self.head:
                self._decline(self.head)
                self.feed(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self.complete:
                raise self._refuse(error) from error
        if self.head is None and self._seen > self._head_bytes:
            raise errors.Refused(errors.head_too_large(self._head_bytes))
        if self._limit is not None and self._received > self._limit.bytes:
            raise errors.Refused(self._limit.error)

    def take_body(self) -> bytearray:
        """Hand over the part of the body that has arrived."""
        body, self.body = self.body, bytearray()
        return body

    def _check_first_line(self, data: bytes) -> None:
        """Check the first line once it is complete."""
        if self._line.endswith(b"\n"):
            return
        line, end, _ = (self._line + data).lstrip(b"\r\n").partition(b"\n")
        self._line = line + end
        if end and not _REQUEST_LINE.fullmatch(self._line):
            raise errors.Refused(errors.BAD_REQUEST)

    def _decline(self, head: Head) -> None:
        """Ignore an offer to change the protocol (h2c), and read the body. llhttp would treat the body as data of the
        new protocol."""
        self.complete = False
        self._parser = httptools.HttpRequestParser(self)
        about = [b"%s: %s\r\n" % line for line in head.headers if line[0].lower() in _ABOUT_BODY]
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(about))
        self._followed = False

    def _refuse(self, error: Exception) -> errors.Refused:
        cause = error.__context__  # what a callback raised
        return cause if isinstance(cause, errors.Refused) else errors.Refused(errors.BAD_REQUEST)

    def on_url(self, part: bytes) -> None:
        if self.head is None:
            self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.head is not None:
            self._followed = True
            return
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        if size > self._head_bytes:
            raise errors.Refused(errors.head_too_large(self._head_bytes))
        method = self._parser.get_method().decode("latin-1")
        head = Head(method, _origin_form(self._target), self._parser.get_http_version(), self._headers)
        _check(head)
        declared = head.get(b"content-length")
        self._limit = self._find_limit(head)
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self._limit.bytes):
            raise errors.Refused(self._limit.error)
        self.head = head

    def on_body(self, part: bytes) -> None:
        if not self.complete and self._limit is not None and self._received <= self._limit.bytes:
            self.body += part
            self._received += len(part)

    def on_message_complete(self) -> None:
        self.complete = True


def _check(head: Head) -> None:
    """Refuse heads that llhttp accepts and another server may read differently."""
    if head.method not in METHODS:
        raise errors.Refused(errors.method_not_allowed(head.method, METHODS))
    names = [name.lower() for name, _ in head.headers]
    hosts = names.count(b"host")
    if hosts == 0 and head.version != "1.0":
        raise errors.Refused(errors.bad_request("a Host header is missing"))
    for name in _UNREPEATABLE:
        if names.count(name) > 1:
            raise errors.Refused(errors.bad_request(f"there are several {name.decode()} headers"))
    if not _HOST.fullmatch(head.get(b"host")):
        raise errors.Refused(errors.bad_request("the Host header is not a host name"))
    if b"transfer-encoding" in names and (head.version == "1.0" or head.get(b"transfer-encoding").lower() != "chunked"):
        raise errors.Refused(errors.bad_request("the only transfer encoding is chunked, in HTTP/1.1"))


def _origin_form(target: bytes) -> bytes:
    """The target without scheme and host, which a client adds if it uses the gateway as a proxy."""
    if target.startswith(b"/") or b"://" not in target:
        return target
    return b"/" + target.partition(b"://")[2].partition(b"/")[2]
