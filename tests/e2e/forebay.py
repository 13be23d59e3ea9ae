"""Steps that many end-to-end tests share: install the chart, reach a Service, run the official clients."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cluster import images as cluster_images
from cluster.pins import ROOT
from tests.kubectl import Kubectl, Manifest

CHART = ROOT / "charts/forebay"
SYSTEM = "forebay-system"
MONITORING = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
}
"""The pods that may read metrics."""

PROGRAMS = ROOT / "tests/e2e/clients"


@cache
def images() -> dict[str, str]:
    """References of the images that the cluster has, as they were when the tests began."""
    return cluster_images.images(tests=True)


def helm(kubectl: Kubectl, *arguments: str) -> str:
    """Standard output of a Helm command on the cluster, in the namespace of the operator."""
    command = [str(kubectl.binary.parent / "helm"), "--namespace", SYSTEM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=kubectl.environment(), timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def install_chart(
    kubectl: Kubectl,
    *options: str,
    release: str = "forebay",
    chart: Path = CHART,
    operator: str | None = None,
    vllm: str | None = None,
) -> None:
    """Install the chart, or bring an installed one up to date. Images come from this checkout unless the arguments name
    others.

    `vllm` is the image of endpoints that name none. Jobs are off unless an option turns them on: most tests need no
    jobs, and gateways would wait for Valkey's password.
    """
    values = {
        **split_image("image", operator or images()["operator"]),
        "server.gpuImage": vllm or images()["vllm-cpu"],
        "server.cpuImage": vllm or images()["vllm-cpu"],
        "server.pullPolicy": "IfNotPresent",
    }
    if "overlay:" in (chart / "values.yaml").read_text():  # the previous release has no overlay
        values |= split_image("server.image", images()["forebay-server"])
    settings = [f"--set-string={name}={value}" for name, value in values.items()]
    if (chart / "templates/valkey.yaml").exists():  # the previous release may have no Valkey
        settings.append("--set=valkey.create=false")
    if (chart / "templates/_pods.tpl").exists():  # many endpoints share this small node, and few of them have requests
        settings.append("--set=server.resources.gpu=null,server.resources.cpu=null")
        settings.append(f"--set-json=networkPolicy.from={json.dumps([MONITORING])}")
    waiting = ["--create-namespace", "--wait", "--timeout=5m"]
    helm(kubectl, "upgrade", "--install", release, str(chart), *settings, *waiting, *options)


def split_image(value: str, reference: str) -> dict[str, str]:
    """The chart's values below `value` for an image."""
    repository, tag = reference.rsplit(":", 1)
    return {f"{value}.repository": repository, f"{value}.tag": tag}


def read_key(kubectl: Kubectl, endpoint: str) -> str:
    """The endpoint's key, from its Secret."""
    secret = kubectl.get("secret", f"{endpoint}-api-key")
    assert secret is not None
    return base64.b64decode(secret["data"]["api-key"]).decode()


def wait_ready(kubectl: Kubectl, endpoint: str, timeout: int = 600) -> Manifest:
    """Wait for the Ready condition as a user would; returns the endpoint."""
    kubectl.run("wait", "--for=condition=Ready", f"iep/{endpoint}", f"--timeout={timeout}s", timeout=timeout + 10)
    found = kubectl.get("iep", endpoint)
    assert found is not None
    return found


@contextmanager
def port_forward(kubectl: Kubectl, service: str) -> Iterator[int]:
    """A local port that leads to a Service while the context lasts."""
    command = [str(kubectl.binary), "-n", kubectl.namespace, "port-forward", f"svc/{service}", ":80"]
    command.append("--address=127.0.0.1")
    with subprocess.Popen(command, env=kubectl.environment(), stdout=subprocess.PIPE, text=True) as forward:
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            assert "127.0.0.1:" in line, f"kubectl port-forward said {line!r}"
            yield int(line.split("127.0.0.1:")[1].split()[0])
        finally:
            forward.terminate()


@dataclass(frozen=True)
class Clients:
    """The official clients, in a pod of the cluster and on this machine."""

    pod: Kubectl

    def run_inside(self, program: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Run a Python or JavaScript program in the pod; returns what it prints.

        By then, the URLs among its arguments and variables accept connections.
        """
        self.wait_for_services(*arguments, *(env or {}).values())
        runner = ["python3", "-"] if program.suffix == ".py" else ["node", "--input-type=module", "-"]
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        command = ["exec", "-i", "client", "--", "env", *variables, *runner, *arguments]
        return self.pod.run(*command, stdin=program.read_text(), timeout=300)

    def wait_for_services(self, *words: str) -> None:
        """Wait until the cluster's DNS and network have the Services of URLs among `words`, which takes seconds."""
        if urls := [word for word in words if word.startswith("http://")]:
            program = (PROGRAMS / "reach.py").read_text()
            self.pod.run("exec", "-i", "client", "--", "python3", "-", *urls, stdin=program, timeout=120)

    def run_here(self, program: Path, *arguments: str) -> str:
        """Run a program on this machine's network: Python as it is, JavaScript in the clients' container."""
        if program.suffix == ".py":
            command = [sys.executable, "-", *arguments]
        else:
            container = ["docker", "run", "--rm", "-i", "--network=host", images()["client"]]
            command = [*container, "node", "--input-type=module", "-", *arguments]
        text = program.read_text()
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout


def client_pod() -> Manifest:
    """The pod of the clients, which waits for programs."""
    container = {"name": "client", "image": images()["client"], "imagePullPolicy": "Never"}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": spec}


def wait_for_key(clients: Clients, url: str, key: str) -> None:
    """Wait until the gateway accepts an endpoint's key, whose digest the operator writes."""
    assert clients.run_inside(PROGRAMS / "models.py", url, key).strip() == "200"


@contextmanager
def talking(clients: Clients, model: str, *asked: str) -> Iterator[dict[str, Any]]:
    """Clients in the pod that send requests while the context lasts: see clients/traffic.py, with the arguments
    `asked`. Their counts are in the dict afterwards."""
    clients.wait_for_services(*asked)
    pod, program = clients.pod, (PROGRAMS / "traffic.py").read_text()
    inside = ["exec", "-i", "client", "--", "python3", "-c", program, model, *asked]
    command = [str(pod.binary), "--namespace", pod.namespace, *inside]
    counted: dict[str, Any] = {}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=pod.environment(), stdin=pipe, stdout=pipe, text=True) as running:
        yield counted
        printed, _ = running.communicate(timeout=180)
        counted |= json.loads(printed)
    print(json.dumps(counted))


def read_check(printed: str) -> dict[str, Any]:
    """The results of check.py or check.mjs."""
    return dict(json.loads(printed))
