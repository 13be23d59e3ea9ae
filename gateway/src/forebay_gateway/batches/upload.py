"""Reads the form that a file is uploaded by (RFC 7578)."""

import asyncio
from dataclasses import dataclass

import aiohttp
from aiohttp.base_protocol import BaseProtocol


class BadUpload(Exception):
    """The form cannot be taken; the message is for the client. `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Upload:
    """What was uploaded, and for how many seconds it is to be kept; None where nothing is said."""

    filename: str
    purpose: str
    content: str
    kept: int | None


async def read_upload(content_type: str, body: bytes) -> Upload:
    """Raises BadUpload."""
    if not content_type.lower().startswith("multipart/form-data"):
        raise BadUpload("Files are uploaded as multipart/form-data with the fields file and purpose.")
    loop = asyncio.get_running_loop()
    stream = aiohttp.StreamReader(BaseProtocol(loop), 1 << 20, loop=loop)
    stream.feed_data(body)
    stream.feed_eof()
    fields: dict[str, bytes] = {}
    filename = ""
    try:
        reader = aiohttp.MultipartReader({"Content-Type": content_type}, stream)
        while isinstance(part := await reader.next(), aiohttp.BodyPartReader):
            name = part.name or ""
            fields[name] = bytes(await part.read(decode=True))
            if name == "file":
                filename = part.filename or "file"
    except (ValueError, AssertionError, aiohttp.ClientError, aiohttp.http_exceptions.HttpProcessingError) as error:
        raise BadUpload(f"The form cannot be read: {error}") from None
    if "file" not in fields:
        raise BadUpload("The form has no file.", "file")
    try:
        content = fields["file"].decode()
    except UnicodeDecodeError:
        raise BadUpload("The file is no UTF-8 text.", "file") from None
    kept = fields.get("expires_after[seconds]", b"").decode(errors="replace")
    if kept and not kept.isdecimal():
        raise BadUpload("expires_after[seconds] must be a number.", "expires_after")
    return Upload(filename, fields.get("purpose", b"").decode(errors="replace"), content, int(kept) if kept else None)
