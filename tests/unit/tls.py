"""A server that speaks TLS, and certificates for it."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate", folder / "key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return certificate, private


@asynccontextmanager
async def rotated(folder: Path) -> AsyncIterator[tuple[int, Path, Callable[..., Coroutine[Any, Any, None]]]]:
    """A server that answers {} once on each connection. Yields its port, the file of CAs for clients, and what gives
    it another certificate, whose CA is in that file unless `write` is false."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca_file = folder / "ca.crt"

    async def rotate(*, write: bool = True) -> None:
        certificate, key = write_certificate(folder)
        context.load_cert_chain(certificate, key)
        if write:
            ca_file.write_bytes(certificate.read_bytes())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        writer.close()

    await rotate()
    async with await asyncio.start_server(answer, "localhost", 0, ssl=context, family=socket.AF_INET) as server:
        yield server.sockets[0].getsockname()[1], ca_file, rotate
