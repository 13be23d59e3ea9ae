"""Reads one request from the bytes of a connection, within limits. Parsed by httptools (llhttp, strict)."""

from dataclasses import dataclass

import httptools

from forebay_gateway import errors
from forebay_gateway.head import Head

_ABOUT_BODY = frozenset({b"content-length", b"transfer-encoding"})


class RequestReader:
    """Feed it; then look at `head`, which is there as soon as it is complete, and at `complete`."""

    def __init__(self, head_bytes: int, body_bytes: int) -> None:
        self.head: Head | None = None
        self.complete = False
        self.body = bytearray()
        self._head_bytes = head_bytes
        self._body_bytes = body_bytes
        self._seen = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpRequestParser(self)

    @property
    def began(self) -> bool:
        """Whether anything has come."""
        return self._seen > 0

    def feed(self, data: bytes) -> None:
        """Take in what came. What follows a complete request is thrown away.

        Raises Refused: it is no HTTP, or larger than the limits allow.
        """
        if self.complete:
            return
        self._seen += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.head and not self.head.is_web_socket:
                self._decline(self.head)
                self.feed(data[upgrade.args[0] :])
            else:
                self.complete = True
        except httptools.HttpParserError as error:
            raise self._refuse(error) from error
        if self.head is None and self._seen > self._head_bytes:
            raise errors.Refused(errors.head_too_large(self._head_bytes))
        if self.head is not None and len(self.body) > self._body_bytes:
            raise errors.Refused(errors.body_too_large(self._body_bytes))

    def _decline(self, head: Head) -> None:
        """Read the body that comes with an offer to change the protocol (h2c), which is not taken: llhttp would take
        it for the other protocol's bytes."""
        self.complete = False
        self._parser = httptools.HttpRequestParser(self)
        about = [b"%s: %s\r\n" % line for line in head.headers if line[0].lower() in _ABOUT_BODY]
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(about))

    def _refuse(self, error: Exception) -> errors.Refused:
        found = error.__context__  # what a callback raised
        return found if isinstance(found, errors.Refused) else errors.Refused(errors.BAD_REQUEST)

    def on_url(self, part: bytes) -> None:
        if self.head is None:
            self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.head is not None:
            return
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        if size > self._head_bytes:
            raise errors.Refused(errors.head_too_large(self._head_bytes))
        method = self._parser.get_method().decode("latin-1")
        head = Head(method, _origin_form(self._target), self._parser.get_http_version(), self._headers)
        declared = head.get(b"content-length")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self._body_bytes):
            raise errors.Refused(errors.body_too_large(self._body_bytes))
        self.head = head

    def on_body(self, part: bytes) -> None:
        if not self.complete and len(self.body) <= self._body_bytes:
            self.body += part

    def on_message_complete(self) -> None:
        self.complete = True


def _origin_form(target: bytes) -> bytes:
    """The target without scheme and host, which clients that take the gateway for a proxy put before the path."""
    if target.startswith(b"/") or b"://" not in target:
        return target
    return b"/" + target.partition(b"://")[2].partition(b"/")[2]


@dataclass
class Budget:
    """Bytes of request bodies that the gateway keeps in memory, in all."""

    limit: int
    used: int = 0

    def take(self, size: int) -> bool:
        """Whether `size` more bytes may be kept; if so they count from now on."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """What `take` has counted is free again."""
        self.used -= size
