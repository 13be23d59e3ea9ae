"""Webhooks through an HTTP proxy: which webhooks use it, and that no URL makes it call an internal address."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from forebay_gateway.jobs.egress_proxies import EgressProxies, read_proxies
from forebay_gateway.jobs.receivers import Receivers
from tests.unit.gateway.test_webhooks import Gateway, running
from tests.unit.tls import ANSWER, write_certificate

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "https://hooks.example/a", False),
        ("*", "https://hooks.example/a", True),
        ("hooks.example", "https://hooks.example/a", True),
        ("example", "https://hooks.example/a", True),
        (".example", "https://HOOKS.example./a", True),
        ("*.example", "https://hooks.example/a", True),
        ("ample", "https://hooks.example/a", False),
        ("10.0.0.0/8, other", "http://10.1.2.3/a", True),
        ("10.0.0.0/8", "http://11.1.2.3/a", False),
        ("10.1.2.3", "http://10.1.2.3:8080/a", True),
        ("[fd00::1]", "http://[fd00::1]/a", True),
        ("fd00::/8", "http://[fd00::1]/a", True),
        ("hooks.example:8443", "https://hooks.example:8443/a", True),
        ("hooks.example:8443", "https://hooks.example/a", False),
        ("localhost,,", "https://hooks.example/a", False),
    ],
)
def test_no_proxy_names_hosts_domains_networks_and_ports(no_proxy: str, url: str, direct: bool) -> None:
    proxies = read_proxies({"HTTPS_PROXY": PROXY, "http_proxy": PROXY, "NO_PROXY": no_proxy})
    assert proxies.find(URL(url)) == ("" if direct else PROXY)


def test_each_scheme_has_its_own_proxy() -> None:
    proxies = read_proxies({"HTTPS_PROXY": PROXY})
    assert (proxies.find(URL("https://a.example")), proxies.find(URL("http://a.example"))) == (PROXY, "")


@pytest.mark.parametrize("url", ["proxy.example:3128", "socks5://proxy.example", "http://"])
def test_an_invalid_proxy_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY must be a URL"):
        read_proxies({"HTTPS_PROXY": url})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "0x7f.1", "0177.0.0.1", "2130706433", "0", "10.0.0.1", "169.254.169.254", "fd00::1",
        "::ffff:10.0.0.1", "fe80::1%eth0", "localhost", "LOCALHOST.", "a.localhost", "metadata.google.internal",
        "intranet", "sink.team-a.svc", "sink.team-a.svc.cluster.local", "sink.team-a.svc.cluster.local.",
        "printer.local", "127%2e0.0.1", "",
    ],
)  # fmt: skip
def test_no_internal_host_goes_to_a_proxy(host: str) -> None:
    with pytest.raises(OSError, match=r"not|metadata"):
        Receivers((), (), "cluster.local").check_host_for_proxy(host)


@pytest.mark.parametrize("host", ["hooks.example.com", "93.184.216.34", "xn--bcher-kva.example", "2606:2800:220:1::1"])
def test_a_host_of_the_internet_may_go_to_a_proxy(host: str) -> None:
    Receivers((), (), "cluster.local").check_host_for_proxy(host)


@dataclass
class ForwardProxy:
    """A proxy that connects every host to one receiver."""

    target: int = 0
    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    """The heads of the requests that it got."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        to_reader, to_writer = await asyncio.open_connection("localhost", self.target)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            to_writer.write(head)
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def proxying(context: ssl.SSLContext | None = None) -> AsyncIterator[ForwardProxy]:
    """A proxy, and a receiver behind it that answers 200, with TLS if there is a context."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client did not accept the certificate
        finally:
            writer.close()

    proxy = ForwardProxy()
    receiver = await asyncio.start_server(answer, "localhost", 0, ssl=context)
    proxy.target = receiver.sockets[0].getsockname()[1]
    server = await asyncio.start_server(proxy.serve, "localhost", 0)
    proxy.url = f"http://user:secret@localhost:{server.sockets[0].getsockname()[1]}"
    async with receiver, server:
        yield proxy


def delivering(proxy: ForwardProxy, networks: str = "") -> AbstractAsyncContextManager[Gateway]:
    """A gateway that uses the proxy for all webhooks."""
    return running(networks=networks, proxies=EgressProxies(proxy.url, proxy.url))


@pytest.fixture
def only_localhost(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A DNS that knows localhost and the names that a test adds, as behind a firewall."""
    known, resolve = {"localhost": "127.0.0.1"}, socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name not in known and not name.startswith("127."):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(known.get(name, name), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


async def test_a_webhook_goes_through_the_proxy_which_looks_up_the_name(only_localhost: dict[str, str]) -> None:
    async with proxying() as proxy, delivering(proxy) as gateway:
        await gateway.finish_job("http://hooks.example/done")
        await gateway.settled()
    (head,) = proxy.heads
    assert head.startswith(b"POST http://hooks.example/done HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in head


async def test_a_webhook_with_tls_gets_a_tunnel(
    only_localhost: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    trusted = ssl.create_default_context(cafile=certificate)
    trusted.check_hostname = False
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusted)
    async with proxying(context) as proxy, delivering(proxy) as gateway:
        await gateway.finish_job("https://hooks.example/done")
        await gateway.settled()
    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [b"CONNECT hooks.example:443 HTTP/1.1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/done", "http://localhost/done", "http://①②⑦.0.0.1/done", "http://127。0。0。1/done",
        "http://１２７.０.０.１/done", "http://0x7f.1/done", "https://kubernetes.default.svc/done",
        "http://rebound.example/done", "http://[::1]/done", "http://metadata.google.internal/done",
    ],
)  # fmt: skip
async def test_no_url_makes_the_proxy_call_an_internal_address(only_localhost: dict[str, str], url: str) -> None:
    """A name with an internal address in this cluster's DNS is rejected too."""
    only_localhost["rebound.example"] = "127.0.0.1"
    async with proxying() as proxy, delivering(proxy) as gateway:
        await gateway.finish_job(url)
        await gateway.settled()
    assert proxy.heads == []


async def test_an_allowed_network_may_be_called_through_the_proxy(only_localhost: dict[str, str]) -> None:
    only_localhost["inside.example"] = "127.0.0.1"
    async with proxying() as proxy, delivering(proxy, "127.0.0.0/8") as gateway:
        await gateway.finish_job("http://inside.example/done")
        await gateway.settled()
    assert len(proxy.heads) == 1
