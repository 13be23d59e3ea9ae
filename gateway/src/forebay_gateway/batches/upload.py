"""Reads the form that a file is uploaded by (RFC 7578): one that is there as a whole, or one that still comes."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass

from forebay_gateway.batches.contents import PART_BYTES, FileWriter
from forebay_gateway.http.body_stream import BodyStream
from forebay_gateway.http.errors import Refused, file_too_large
from forebay_gateway.http.form_reader import FormField, FormReader
from forebay_gateway.http.multipart import Part, is_form, read_parts

MOST_UPLOAD_PARTS = 16
LONGEST_UPLOAD_FIELD = 512
"""Bytes of a field that is no file."""

MOST_SIZE_DIGITS = 9

LEAST_UPLOAD_SECONDS = 3600.0
"""What an upload may take in any case."""


def longest_upload(file_bytes: int, body_seconds: float, bucket_seconds: float) -> float:
    """Seconds that an upload into the bucket may take: an hour, or more by the gateway's settings, which give each part
    so long to come and to be written."""
    parts = file_bytes // PART_BYTES + 2  # the last, and the form around the file
    return max(LEAST_UPLOAD_SECONDS, parts * (body_seconds + 2 * bucket_seconds))  # as bucket.Bucket waits


class BadUpload(Exception):
    """The form cannot be taken; the message is for the client. `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


NOT_A_FORM = "Files are uploaded as multipart/form-data with the fields file and purpose."
NO_FILE = "The form has no file."
NOT_UTF8 = "The file is not UTF-8 text."
KEPT_FIELD = "expires_after[seconds]"
READ_FIELDS = frozenset({KEPT_FIELD, "purpose"})
"""Besides the file. Others, such as LiteLLM's own, are passed over."""


@dataclass(frozen=True)
class UploadFields:
    """What a form says of its file. `kept`: for how many seconds; None where nothing is said."""

    filename: str
    purpose: str
    kept: int | None


@dataclass(frozen=True)
class Upload(UploadFields):
    """With the file."""

    content: str


def read_upload(content_type: str, body: bytes | bytearray) -> Upload:
    """Raises BadUpload."""
    if not is_form(content_type):
        raise BadUpload(NOT_A_FORM)
    try:
        parts = {part.name: part for part in read_parts(content_type, body, MOST_UPLOAD_PARTS)}
    except ValueError as error:
        raise BadUpload(f"The form cannot be read: {error}.") from None
    file = parts.pop("file", None)
    if file is None:
        raise BadUpload(NO_FILE, "file")
    try:
        content = str(file.content, "utf-8")
    except UnicodeDecodeError:
        raise BadUpload(NOT_UTF8, "file") from None
    kept, purpose = (_read_field(parts, name) for name in (KEPT_FIELD, "purpose"))
    return Upload(file.filename or "file", purpose, _read_seconds(kept), content)


async def receive_upload(content_type: str, body: BodyStream, writer: FileWriter, most_bytes: int) -> UploadFields:
    """Read a form while it comes and write its file, of up to `most_bytes`. Raises BadUpload, Refused, Unavailable."""
    if not is_form(content_type):
        raise BadUpload(NOT_A_FORM)
    form = _IncomingForm(writer, most_bytes)
    try:
        reader = FormReader(content_type, MOST_UPLOAD_PARTS)
        while data := await body.read():
            for field, piece in reader.feed(data):
                await form.take(field, piece)
        reader.close()
        return form.finish()
    except UnicodeDecodeError:
        raise BadUpload(NOT_UTF8, "file") from None
    except ValueError as error:
        raise BadUpload(f"The form cannot be read: {error}.") from None


class _IncomingForm:
    """What has come of a form by now."""

    def __init__(self, writer: FileWriter, most_bytes: int) -> None:
        self._writer = writer
        self._most_bytes = most_bytes
        self._file: FormField | None = None
        self._fields: dict[str, bytes] = {}
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    async def take(self, field: FormField, piece: bytes) -> None:
        """Raises BadUpload, Refused, UnicodeDecodeError and Unavailable."""
        if field.name == "file":
            self._file = self._file or field
            if field != self._file:
                raise BadUpload("The form has more than one file.", "file")
            if self._writer.size + len(piece) > self._most_bytes:
                raise Refused(file_too_large(self._most_bytes))
            self._decoder.decode(piece)
            await self._writer.write(piece)
            return
        if field.name not in READ_FIELDS:
            return
        # each field begins with an empty piece, so of two of a name the last counts
        self._fields[field.name] = value = self._fields[field.name] + piece if piece else b""
        if len(value) > LONGEST_UPLOAD_FIELD:
            raise _too_long(field.name)

    def finish(self) -> UploadFields:
        """Raises BadUpload and UnicodeDecodeError."""
        if self._file is None:
            raise BadUpload(NO_FILE, "file")
        self._decoder.decode(b"", final=True)
        kept, purpose = (self._fields.get(name, b"").decode(errors="replace") for name in (KEPT_FIELD, "purpose"))
        return UploadFields(self._file.filename or "file", purpose, _read_seconds(kept))


def _read_seconds(text: str) -> int | None:
    """For how long a file is to be kept. Raises BadUpload."""
    if text and not (text.isdecimal() and len(text) <= MOST_SIZE_DIGITS):
        raise BadUpload(f"{KEPT_FIELD} must be a number of up to {MOST_SIZE_DIGITS} digits.", "expires_after")
    return int(text) if text else None


def _read_field(parts: Mapping[str, Part], name: str) -> str:
    if name not in parts:
        return ""
    if len(parts[name].content) > LONGEST_UPLOAD_FIELD:
        raise _too_long(name)
    return bytes(parts[name].content).decode(errors="replace")


def _too_long(name: str) -> BadUpload:
    return BadUpload(f"{name[:LONGEST_UPLOAD_FIELD]} is longer than {LONGEST_UPLOAD_FIELD} bytes.", name)
