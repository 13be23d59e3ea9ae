"""A Valkey, or here Redis, that keeps its data on disk, and can be killed and started again."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cluster.programs.redis import server
from tests.integration.control_plane import free_ports, running
from tests.kubectl import wait_for

OPTIONS = ("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
"""As the chart runs it."""


class ValkeyServer:
    """On a port of loopback, with a password."""

    PASSWORD = "the password of the tests"

    def __init__(self, folder: Path) -> None:
        self.port = free_ports(1)[0]
        self.log = folder / "valkey.log"
        self._folder = folder
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        return f"valkey://:{self.PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        """Start it and wait until it answers."""
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder))
        command: list[str | Path] = [server(), *where, "--requirepass", self.PASSWORD, *OPTIONS, *options]
        self._process = self._stack.enter_context(running(self.log, *command))
        wait_for(self._answers, "Valkey answers")

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._stack.close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"Valkey ended:\n{self.log.read_text()[-2000:]}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as asking:
                asking.sendall(b'AUTH "%s"\r\nPING\r\n' % self.PASSWORD.encode())
                return b"+PONG" in asking.recv(100)
        except OSError:
            return False


@contextmanager
def running_valkey(folder: Path, *options: str) -> Iterator[ValkeyServer]:
    """Run one in its own folder."""
    found = ValkeyServer(folder)
    found.start(*options)
    try:
        yield found
    finally:
        found.stop()
