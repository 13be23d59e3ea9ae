"""A sound and an image to send."""

import base64
import struct
import zlib


def silence_in_base64() -> str:
    """A second of silence as PCM16 at 16 kHz."""
    return base64.b64encode(bytes(2 * 16000)).decode()


def red_square() -> str:
    """As a data: URL."""
    side = 56
    rows = (b"\0" + b"\xff\0\0" * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    image = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
