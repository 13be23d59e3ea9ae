"""Reads the form of an uploaded file (RFC 7578), from a complete body or while the body arrives. `http_api` calls
it."""

import codecs
from dataclasses import dataclass

from forebay_gateway.batches.contents import PART_BYTES, FileWriter
from forebay_gateway.http.body_stream import BodyStream
from forebay_gateway.http.errors import Refused, file_too_large
from forebay_gateway.http.form_reader import FormField, FormReader
from forebay_gateway.http.multipart import is_form, read_parts

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
    """The fields of a form. `retention`: the seconds for which the file is kept; None if the form has none."""

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
    form, content = _UploadForm(), memoryview(b"")
    try:
        for part in read_parts(content_type, body, MAX_UPLOAD_PARTS):
            if form.begin_field(part.name, part.filename):
                content = part.content
            else:
                form.add_value(part.name, part.content)
    except ValueError as error:
        raise BadUpload(f"The form cannot be read: {error}.") from None
    fields = form.finish()
    return Upload(fields.filename, fields.purpose, fields.retention, content)


async def receive_upload(content_type: str, body: BodyStream, writer: FileWriter, max_bytes: int) -> UploadFields:
    """Read a form while it arrives, and write its file of up to `max_bytes`. Raises BadUpload, Refused, Unavailable."""
    if not is_form(content_type):
        raise BadUpload(NOT_A_FORM)
    form = _UploadForm()
    decoder = codecs.getincrementaldecoder("utf-8")()
    field: FormField | None = None
    is_file = False
    try:
        reader = FormReader(content_type, MAX_UPLOAD_PARTS)
        while data := await body.read():
            for each, piece in reader.feed(data):
                if each != field:
                    field, is_file = each, form.begin_field(each.name, each.filename)
                if not is_file:
                    form.add_value(each.name, piece)
                    continue
                if writer.size + len(piece) > max_bytes:
                    raise Refused(file_too_large(max_bytes))
                decoder.decode(piece)
                await writer.write(piece)
        reader.close()
        fields = form.finish()
        decoder.decode(b"", final=True)
        return fields
    except UnicodeDecodeError:
        raise BadUpload(NOT_UTF8, "file") from None
    except ValueError as error:
        raise BadUpload(f"The form cannot be read: {error}.") from None


class _UploadForm:
    """The rules for the fields of a form, in the order in which they are read."""

    def __init__(self) -> None:
        self._filename: str | None = None
        self._values: dict[str, bytes] = {}

    def begin_field(self, name: str, filename: str | None) -> bool:
        """Begin a field. Of two fields with one name, the last one is used. Returns whether the field is the file.

        Raises BadUpload for a second file.
        """
        if name == "file":
            if self._filename is not None:
                raise BadUpload("The form has more than one file.", "file")
            self._filename = filename or "file"
            return True
        if name in READ_FIELDS:
            self._values[name] = b""
        return False

    def add_value(self, name: str, piece: bytes | memoryview) -> None:
        """Add a piece to a field that is not the file. Raises BadUpload."""
        if name not in READ_FIELDS:
            return
        if len(self._values[name]) + len(piece) > MAX_UPLOAD_FIELD_BYTES:
            raise BadUpload(f"{name} is longer than {MAX_UPLOAD_FIELD_BYTES} bytes.", name)
        self._values[name] += bytes(piece)

    def finish(self) -> UploadFields:
        """Check the complete form, and return its fields. Raises BadUpload."""
        if self._filename is None:
            raise BadUpload(NO_FILE, "file")
        retention, purpose = (
            self._values.get(name, b"").decode(errors="replace") for name in (EXPIRY_FIELD, "purpose")
        )
        return UploadFields(self._filename, purpose, _read_seconds(retention))


def _read_seconds(text: str) -> int | None:
    """The seconds for which a file is kept; None for an empty text. Raises BadUpload."""
    if text and not (text.isdecimal() and len(text) <= MAX_SECONDS_DIGITS):
        raise BadUpload(f"{EXPIRY_FIELD} must be a number of up to {MAX_SECONDS_DIGITS} digits.", "expires_after")
    return int(text) if text else None
