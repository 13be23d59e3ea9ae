"""The operator as a separate process, as in a cluster."""

import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import yaml

from cluster.pins import ROOT
from tests.integration.control_plane import free_ports, running
from tests.kubectl import Kubectl

CHART = ROOT / "charts/forebay"


def give_access(admin: Kubectl, path: Path, namespace: str = "forebay-system", *values: str) -> Kubectl:
    """Write a kubeconfig with the operator's own access.

    The service account is that of the chart with these values (--set=…), in a new namespace. It has only the
    permissions of the chart's roles and admission policy.
    """
    system = admin.within(namespace)
    system.run("create", "namespace", system.namespace)
    if not any("watchNamespaces" in value for value in values):
        policy = render(system, "templates/admission.yaml", *values)
        name = f"forebay-operator-{namespace}"  # each installation has its own policy
        system.within("").run("apply", "-f", "-", stdin=policy.replace("forebay-operator\n", f"{name}\n"))
    return give_chart_access(system, path, "forebay", "templates/rbac.yaml", *values)


def give_chart_access(system: Kubectl, path: Path, account: str, template: str, *values: str) -> Kubectl:
    """Write a kubeconfig for one of the chart's service accounts, with the roles from a template of the chart.

    `system` is the namespace of the chart.
    """
    system.within("").run("apply", "-f", "-", stdin=render(system, template, *values))
    config = yaml.safe_load(system.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = system.run("create", "token", account, "--duration=8h").strip()
    path.write_text(yaml.safe_dump(config))
    return Kubectl(system.binary, path)


def render(system: Kubectl, template: str, *values: str) -> str:
    """The objects of a template of the chart with these values, in the namespace `system`."""
    helm = [str(system.binary.parent / "helm"), "template", "forebay", str(CHART), "--set=image.repository=x", *values]
    shown = [f"--namespace={system.namespace}", f"--show-only={template}"]
    return subprocess.run([*helm, *shown], capture_output=True, text=True, check=True).stdout


def running_operator(
    kubectl: Kubectl, log: Path, *options: str, port: int | None = None
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Run the operator with the access that this kubectl has, until the context ends; probes are on `port`."""
    port = port or free_ports(1)[0]
    command = [
        sys.executable, "-W", "error", "-m", "forebay_operator", "--gpu-image", "gpu-server:1", "--cpu-image",
        "cpu-server:1", "--overlay-image", "forebay-server:1", "--health-address", f"127.0.0.1:{port}",
        "--resync-interval", "5", "--namespace", "forebay-system", *options,
    ]  # fmt: skip
    return running(log, *command, env=kubectl.environment())
