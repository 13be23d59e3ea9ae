"""The password of the chart's own Valkey: the operator creates it, Valkey and gateways use it, an upgrade keeps it."""

import base64
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import asyncio as valkey
from redis.exceptions import AuthenticationError

from cluster.programs.redis import server
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_operator.resources.valkey_secret import build_valkey_secret
from tests.fetch import fetch
from tests.integration.control_plane import free_ports, running
from tests.integration.operator_process import CHART, render, running_operator
from tests.integration.valkey_process import ValkeyServer
from tests.kubectl import Kubectl, wait_for

NAME = "forebay-valkey"
SYSTEM = "forebay-system"
MAX_MEMORY = "200mb"


def read(kubectl: Kubectl, name: str) -> dict[str, str] | None:
    """The entries of a Secret; None without one."""
    secret = kubectl.get("secret", name)
    return secret and {entry: base64.b64decode(value).decode() for entry, value in secret["data"].items()}


def probe_ready(port: int) -> tuple[int, str]:
    """The answer of the operator's readiness probe."""
    try:
        return fetch(urllib.request.Request(f"http://127.0.0.1:{port}/readyz"), 5)
    except OSError:
        return 0, ""


def test_the_operator_creates_the_password_with_the_permissions_of_the_chart(
    operators_kubectl: Kubectl, control_plane: Kubectl, tmp_path: Path
) -> None:
    system, log = control_plane.within(SYSTEM), tmp_path / "log"
    own = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": {"url": "eA=="}}
    made = system.apply(own)
    health = free_ports(1)[0]
    with running_operator(operators_kubectl, log, f"--valkey-service={NAME}", port=health):
        wait_for(lambda: probe_ready(health) == (200, "leading\n"), "the operator has read all objects")
        kept = system.get("secret", NAME)
        assert kept
        assert kept["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        system.delete("secret", NAME)
        entries = wait_for(lambda: read(system, NAME), "the operator creates another password")
    assert f"requirepass {entries['password']}\n" == entries["valkey.conf"]
    assert entries["password"] not in log.read_text()
    system.delete("secret", NAME)


class ChartValkey:
    """The Valkey of the chart's pod, with its arguments, on a port of loopback."""

    def __init__(self, system: Kubectl, folder: Path) -> None:
        rendered = render(system, "templates/valkey.yaml", f"--set=valkey.maxMemory={MAX_MEMORY}")
        (pod,) = [
            each["spec"]["template"]["spec"] for each in yaml.safe_load_all(rendered) if each["kind"] == "StatefulSet"
        ]
        self.arguments = list(map(str, pod["containers"][0]["args"]))
        self.entries = {
            entry: base64.b64decode(value).decode()
            for entry, value in build_valkey_secret(system.namespace, NAME)["data"].items()
        }
        (mounted,) = [each["secret"] for each in pod["volumes"] if "secret" in each]
        assert mounted["secretName"] == NAME
        self.port, self._folder = free_ports(1)[0], folder
        (folder / "data").mkdir()
        for item in mounted["items"]:
            (folder / item["path"]).write_text(self.entries[item["key"]])

    def start(self) -> Any:
        there = {"/etc/valkey/": f"{self._folder}/", "/data": f"{self._folder}/data"}
        command = [next((each.replace(a, b) for a, b in there.items() if a in each), each) for each in self.arguments]
        where = ("--bind", "127.0.0.1", "--port", str(self.port))
        return running(self._folder / "log", server(), *command, *where)

    @property
    def url(self) -> str:
        """The URL of the gateways, except for the Service's name."""
        return self.entries["url"].replace(f"{NAME}.{SYSTEM}.svc:6379", f"127.0.0.1:{self.port}")


def read_command(process: subprocess.Popen[bytes]) -> str:
    """The command line of a process, as everybody sees it."""
    return Path(f"/proc/{process.pid}/cmdline").read_text()


async def test_valkey_and_the_gateways_agree_on_the_password(
    valkey_server: ValkeyServer, control_plane: Kubectl, tmp_path: Path
) -> None:
    found = ChartValkey(control_plane.within(SYSTEM), tmp_path)
    assert found.url != found.entries["url"]
    with found.start() as process:
        async with connect_valkey(found.url) as client:
            wait_for(lambda: "Ready to accept connections" in (tmp_path / "log").read_text(), "Valkey runs")
            wanted = {
                "maxmemory": str(200 << 20),
                "maxmemory-policy": "noeviction",
                "appendonly": "yes",
                "appendfsync": "always",
                "save": "",
                "dir": str(tmp_path / "data"),
            }
            assert await client.config_get(*wanted) == wanted
            await client.set("kept", "yes")
        assert found.entries["password"] not in read_command(process)
        async with valkey.Redis(port=found.port) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.get("kept")
    with found.start():
        wait_for(lambda: (tmp_path / "log").read_text().count("Ready to accept connections") == 2, "Valkey runs again")
        async with connect_valkey(found.url) as client:
            assert await client.get("kept") == "yes"


RELEASE = "forebay-of-old"
OF_OLD = """
{{- $password := randAlphaNum 40 }}
{{- with lookup "v1" "Secret" .Release.Namespace "forebay-of-old-valkey" }}
{{- $password = b64dec .data.password }}
{{- end }}
apiVersion: v1
kind: Secret
metadata:
  name: forebay-of-old-valkey
  namespace: {{ .Release.Namespace }}
  labels: {app.kubernetes.io/managed-by: Helm}
stringData:
  password: {{ $password }}
  url: valkey://:{{ $password }}@forebay-of-old-valkey.{{ .Release.Namespace }}.svc:6379/0
  valkey.conf: |
    dir /data
    maxmemory 384mb
    requirepass {{ $password }}
"""
"""The chart's template from before the operator created the password."""


@pytest.fixture
def old_chart(tmp_path: Path) -> Path:
    """As much of a chart of before as matters here."""
    chart = tmp_path / "forebay"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: forebay\nversion: 0.0.1\n")
    (chart / "templates/valkey.yaml").write_text(OF_OLD)
    return chart


class Release:
    """One release of the chart, in its own namespace."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl

    def helm(self, *arguments: str | Path) -> None:
        """Helm itself, against the real API server."""
        command = [self.kubectl.binary.parent / "helm", f"--namespace={self.kubectl.namespace}", *arguments]
        env = self.kubectl.environment()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)
        assert done.returncode == 0, done.stderr

    def upgrade(self, chart: Path, *values: str) -> None:
        options = "--set=image.repository=x", "--set=crds.install=false", "--set=admissionPolicy.create=false"
        self.helm("upgrade", "--install", RELEASE, chart, *options, *values)

    def secret(self) -> dict[str, str] | None:
        return read(self.kubectl, f"{RELEASE}-valkey")


@pytest.fixture
def release(control_plane: Kubectl) -> Iterator[Release]:
    kubectl = control_plane.within(f"helm-{uuid.uuid4().hex[:8]}")
    kubectl.run("create", "namespace", kubectl.namespace)
    found = Release(kubectl)
    yield found
    found.helm("uninstall", RELEASE, "--ignore-not-found")


def test_an_upgrade_keeps_a_password_created_by_helm(release: Release, old_chart: Path) -> None:
    release.upgrade(old_chart)
    made = release.secret()
    assert made
    assert made["password"]
    for values in ((), ("--set=valkey.maxMemory=300mb",)):
        release.upgrade(CHART, *values)
        assert release.secret() == made
        gateway = release.kubectl.get("deployment", f"{RELEASE}-gateway")
        assert gateway
        (url,) = [
            each["valueFrom"]["secretKeyRef"]
            for each in gateway["spec"]["template"]["spec"]["containers"][0]["env"]
            if each["name"] == "FOREBAY_GATEWAY_VALKEY_URL"
        ]
        assert url == {"name": f"{RELEASE}-valkey", "key": "url"}
    release.helm("rollback", RELEASE, "1")
    assert release.secret() == made
    release.helm("rollback", RELEASE, "3")
    release.helm("uninstall", RELEASE)
    assert release.secret() == made, "it belongs to the volume, which is kept as well"
    release.upgrade(CHART)
    assert release.secret() == made


def test_helm_does_not_change_the_password_of_the_operator(release: Release) -> None:
    release.upgrade(CHART)
    assert release.secret() is None
    name, namespace = f"{RELEASE}-valkey", release.kubectl.namespace
    release.kubectl.apply(dict(build_valkey_secret(namespace, name)))
    made = release.secret()
    release.upgrade(CHART)
    assert release.secret() == made
    release.helm("uninstall", RELEASE)
    assert release.secret() == made
