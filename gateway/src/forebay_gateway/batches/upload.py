"""Reads the form that a file is uploaded by (RFC 7578)."""

from collections.abc import Mapping
from dataclasses import dataclass

from forebay_gateway.http.multipart import Part, is_form, read_parts

MOST_UPLOAD_PARTS = 16
LONGEST_UPLOAD_FIELD = 512
"""Bytes of a field that is no file."""

MOST_SIZE_DIGITS = 9


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


def read_upload(content_type: str, body: bytes | bytearray) -> Upload:
    """Raises BadUpload."""
    if not is_form(content_type):
        raise BadUpload("Files are uploaded as multipart/form-data with the fields file and purpose.")
    try:
        parts = {part.name: part for part in read_parts(content_type, body, MOST_UPLOAD_PARTS)}
    except ValueError as error:
        raise BadUpload(f"The form cannot be read: {error}.") from None
    file = parts.pop("file", None)
    if file is None:
        raise BadUpload("The form has no file.", "file")
    try:
        content = str(file.content, "utf-8")
    except UnicodeDecodeError:
        raise BadUpload("The file is no UTF-8 text.", "file") from None
    kept = _read_field(parts, "expires_after[seconds]")
    if kept and not (kept.isdecimal() and len(kept) <= MOST_SIZE_DIGITS):
        raise BadUpload(f"expires_after[seconds] must be a number of up to {MOST_SIZE_DIGITS} digits.", "expires_after")
    return Upload(file.filename or "file", _read_field(parts, "purpose"), content, int(kept) if kept else None)


def _read_field(parts: Mapping[str, Part], name: str) -> str:
    if name not in parts:
        return ""
    if len(parts[name].content) > LONGEST_UPLOAD_FIELD:
        raise BadUpload(f"{name} is longer than {LONGEST_UPLOAD_FIELD} bytes.", name)
    return bytes(parts[name].content).decode(errors="replace")
