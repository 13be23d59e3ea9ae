"""The gateway's clients trust the CA bundle of the chart: webhooks, Valkey and the bucket find it by SSL_CERT_FILE."""

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path

import pytest

from tests.unit.tls import ANSWER, write_certificate

PROGRAM = """
import asyncio, json, sys
from forebay_gateway.batches.bucket import Bucket, BucketSettings
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_gateway.jobs.webhooks import _open_session
import aiohttp
from aiohttp.resolver import ThreadedResolver

async def call(port):
    found = {}
    async with _open_session(ThreadedResolver(), lambda _: None) as session:
        try:
            found["webhooks"] = (await session.post(f"https://localhost:{port}/")).status
        except aiohttp.ClientError as error:
            found["webhooks"] = type(error).__name__
    client = connect_valkey(f"rediss://localhost:{port}/0")
    try:
        await client.ping()
    except Exception as error:
        found["valkey"] = type(error).__name__
    await client.aclose()
    try:
        await Bucket(BucketSettings("files", f"https://localhost:{port}", seconds=2)).put("a", b"b")
        found["bucket"] = "written"
    except Exception as error:
        found["bucket"] = type(error).__name__
    print(json.dumps(found))

asyncio.run(call(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [
        (True, {"webhooks": 200, "valkey": "InvalidResponse", "bucket": "written"}),
        (False, {"webhooks": "ClientConnectorCertificateError", "valkey": "ConnectionError", "bucket": "Unavailable"}),
    ],
)
async def test_all_clients_of_the_gateway_trust_the_bundle(
    tmp_path: Path, trusted: bool, expected: dict[str, object]
) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65536)
            writer.write(ANSWER.replace(b"\r\n", b'\r\netag: "a"\r\n', 1))
            await writer.drain()
        except ConnectionError:
            pass  # the client did not accept the certificate
        finally:
            writer.close()

    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    environment = {**os.environ, **keys, **({"SSL_CERT_FILE": str(certificate)} if trusted else {})}
    async with await asyncio.start_server(answer, "localhost", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, str(port), env=environment, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await client.communicate()
    assert json.loads(printed) == expected
