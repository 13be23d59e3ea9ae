"""Reads the form of an uploaded file (RFC 7578): from a complete body, or while the body arrives. `http_api` calls
it."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass

from forebay_gateway.batches.contents import PART_BYTES, FileWriter
from forebay_gateway.http.body_stream import BodyStream
from forebay_gateway.http.errors import Refused, file_too_large
from forebay_gateway.http.form_reader import FormField, FormReader
from forebay_gateway.http.multipart import Part, is_form, read_parts

MAX_UPLOAD_PARTS = 16
MAX_UPLOAD_FIELD_BYTES = 512
"""Bytes of a field that is not the file."""

MAX_SECONDS_DIGITS = 9

MIN_UPLOAD_SECONDS = 3600.0
"""Seconds that every upload may take."""


def max_upload_seconds(file_bytes: int, body_seconds: float, bucket_seconds: float) -> float:
    """Seconds that an upload into the bucket may take: at least an hour, and for each part the time to arrive and to be
    written."""
    parts = file_bytes // PART_BYTES + 2  # one more for the rest of the file, and one for the form around it
    return max(MIN_UPLOAD_SECONDS, parts * (body_seconds + 2 * bucket_seconds))  # as bucket.Bucket waits


class BadUpload(Exception):
    """The form is invalid. The message is for the client; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


NOT_A_FORM = "Files are uploaded as multipart/form-data with the fields file and purpose."
NO_FILE = "The form has no file."
NOT_UTF8 = "The file is not UTF-8 text."
EXPIRY_FIELD = "expires_after[seconds]"
READ_FIELDS = frozenset({EXPIRY_FIELD, "purpose"})
"""Fields that are read in addition to the file. Others, such as LiteLLM's own, are ignored."""


@dataclass(frozen=True)
class UploadFields:
    """The fields of a form. `retention`: the seconds for which the file is kept; None where the form has none."""

    filename: str
    purpose: str
    retention: int | None


@dataclass(frozen=True)
class Upload(UploadFields):
    """The fields of a form and the content of its file, as a view of the body."""

    content: memoryview

    def decode(self) -> str:
        """The content as text. Raises BadUpload."""
        try:
            return str(self.content, "utf-8")
        except UnicodeDecodeError:
            raise BadUpload(NOT_UTF8, "file") from None


def read_upload(content_type: str, body: bytes | bytearray) -> Upload:
    """Read a form from a complete body. Raises BadUpload."""
    if not is_form(content_type):
        raise BadUpload(NOT_A_FORM)
    try:
        parts = {part.name: part for part in read_parts(content_type, body, MAX_UPLOAD_PARTS)}
    except ValueError as error:
        raise BadUpload(f"The form cannot be read: {error}.") from None
    file = parts.pop("file", None)
    if file is None:
        raise BadUpload(NO_FILE, "file")
    retention, purpose = (_read_field(parts, name) for name in (EXPIRY_FIELD, "purpose"))
    return Upload(file.filename or "file", purpose, _read_seconds(retention), file.content)


async def receive_upload(content_type: str, body: BodyStream, writer: FileWriter, max_bytes: int) -> UploadFields:
    """Read a form while it arrives, and write its file of up to `max_bytes`. Raises BadUpload, Refused, Unavailable."""
    if not is_form(content_type):
        raise BadUpload(NOT_A_FORM)
    form = _IncomingForm(writer, max_bytes)
    try:
        reader = FormReader(content_type, MAX_UPLOAD_PARTS)
        while data := await body.read():
            for field, piece in reader.feed(data):
                await form.handle_piece(field, piece)
        reader.close()
        return form.finish()
    except UnicodeDecodeError:
        raise BadUpload(NOT_UTF8, "file") from None
    except ValueError as error:
        raise BadUpload(f"The form cannot be read: {error}.") from None


class _IncomingForm:
    """A form that is still arriving."""

    def __init__(self, writer: FileWriter, max_bytes: int) -> None:
        self._writer = writer
        self._max_bytes = max_bytes
        self._file: FormField | None = None
        self._fields: dict[str, bytes] = {}
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    async def handle_piece(self, field: FormField, piece: bytes) -> None:
        """Handle a piece of a field. Raises BadUpload, Refused, UnicodeDecodeError and Unavailable."""
        if field.name == "file":
            self._file = self._file or field
            if field != self._file:
                raise BadUpload("The form has more than one file.", "file")
            if self._writer.size + len(piece) > self._max_bytes:
                raise Refused(file_too_large(self._max_bytes))
            self._decoder.decode(piece)
            await self._writer.write(piece)
            return
        if field.name not in READ_FIELDS:
            return
        # each field begins with an empty piece, so the last of two fields with one name counts
        self._fields[field.name] = value = self._fields[field.name] + piece if piece else b""
        if len(value) > MAX_UPLOAD_FIELD_BYTES:
            raise _too_long(field.name)

    def finish(self) -> UploadFields:
        """Check the complete form, and return its fields. Raises BadUpload and UnicodeDecodeError."""
        if self._file is None:
            raise BadUpload(NO_FILE, "file")
        self._decoder.decode(b"", final=True)
        retention, purpose = (
            self._fields.get(name, b"").decode(errors="replace") for name in (EXPIRY_FIELD, "purpose")
        )
        return UploadFields(self._file.filename or "file", purpose, _read_seconds(retention))


def _read_seconds(text: str) -> int | None:
    """The seconds for which a file is kept; None for an empty text. Raises BadUpload."""
    if text and not (text.isdecimal() and len(text) <= MAX_SECONDS_DIGITS):
        raise BadUpload(f"{EXPIRY_FIELD} must be a number of up to {MAX_SECONDS_DIGITS} digits.", "expires_after")
    return int(text) if text else None


def _read_field(parts: Mapping[str, Part], name: str) -> str:
    if name not in parts:
        return ""
    if len(parts[name].content) > MAX_UPLOAD_FIELD_BYTES:
        raise _too_long(name)
    return bytes(parts[name].content).decode(errors="replace")


def _too_long(name: str) -> BadUpload:
    return BadUpload(f"{name[:MAX_UPLOAD_FIELD_BYTES]} is longer than {MAX_UPLOAD_FIELD_BYTES} bytes.", name)
