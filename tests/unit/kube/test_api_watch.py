"""The gateway's connections to the API server."""

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from pathlib import Path

import pytest
import uvloop
from kubernetes.aio import client

from forebay_kube.api_client import ApiClient, ApiServerError
from tests.unit.tls import write_certificate

EVENT = b'{"type": "ADDED", "object": {}}\n'


class Silence(Enum):
    """At which point an API server that is overloaded neither reads nor writes any more."""

    HANDSHAKE = auto()
    ANSWER = auto()
    WATCH = auto()


@contextmanager
def silent_api_server(certificate: Path, key: Path, silence: Silence) -> Iterator[tuple[int, threading.Event]]:
    """An API server for one connection. Yields its port, and an event that is set when it stops answering."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    silent, over = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            if silence is Silence.HANDSHAKE:
                silent.set()
                over.wait(30)
                return
            with context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(65536)
                if silence is Silence.WATCH:
                    chunk = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
                    wrapped.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk)
                silent.set()
                over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        try:
            yield listener.getsockname()[1], silent
        finally:
            over.set()
            serving.join()


@pytest.mark.parametrize("silence", Silence)
def test_closing_a_watch_leaves_no_connection_open(tmp_path: Path, silence: Silence) -> None:
    """uvloop warns of what is open when the loop ends, and waits for it."""
    certificate, key = write_certificate(tmp_path)

    async def watch_and_end(port: int, silent: threading.Event) -> None:
        configuration = client.Configuration(f"https://localhost:{port}", ssl_ca_cert=str(certificate))

        async def connect() -> client.ApiClient:
            return client.ApiClient(configuration)

        api = ApiClient(await connect(), connect)
        came = asyncio.Event()

        async def follow() -> None:
            async for _ in api.watch("/x", {}):
                came.set()

        following = asyncio.create_task(follow())
        assert await asyncio.to_thread(silent.wait, 10)
        if silence is Silence.WATCH:
            await asyncio.wait_for(came.wait(), 10)
        await api.close()
        following.cancel()
        with suppress(asyncio.CancelledError, ApiServerError):
            await following

    with silent_api_server(certificate, key, silence) as (port, silent):
        uvloop.run(watch_and_end(port, silent))
        gc.collect()
