"""The gateway's connections to the API server."""

import asyncio
import datetime
import gc
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes.aio import client

from forebay_gateway.api import ApiServer

EVENT = b'{"type": "ADDED", "object": {}}\n'


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, signed by itself, and its key."""
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


@contextmanager
def silent_api_server(certificate: Path, key: Path) -> Iterator[int]:
    """An API server that begins a watch, and then neither reads nor writes, as when overloaded. Yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.recv(65536)
            wrapped.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(EVENT), EVENT))
            over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            serving.join()


def test_a_watch_that_is_ended_leaves_nothing_open(tmp_path: Path) -> None:
    """The loop ends right after it; uvloop warns of what is open then."""
    certificate, key = write_certificate(tmp_path)

    async def watch_and_end(port: int) -> None:
        api = ApiServer(
            client.ApiClient(client.Configuration(f"https://localhost:{port}", ssl_ca_cert=str(certificate)))
        )
        began = asyncio.Event()

        async def follow() -> None:
            async for _ in api.watch("/x", {}):
                began.set()

        following = asyncio.create_task(follow())
        await asyncio.wait_for(began.wait(), 10)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await api.close()

    with silent_api_server(certificate, key) as port:
        uvloop.run(watch_and_end(port))
        gc.collect()
