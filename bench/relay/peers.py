"""The programs between client and upstream, each on one worker, with their versions."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.pins import ROOT, cache
from cluster.tools import host_tools
from tests.integration.canned_pod import own_address
from tests.integration.control_plane import free_ports, running, start_control_plane
from tests.integration.gateway_process import Gateway, running_gateway

CRD = ROOT / "crds/inferenceendpoints.forebay.dev.yaml"
REQUIREMENTS = ROOT / "requirements/relay.txt"

NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log crit; worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream upstream {{ server 127.0.0.1:{upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://upstream; }}
  }}
}}
"""

NAMES = ("nginx", "vllm-router", "gateway", "aiohttp", "starlette", "litellm")


@dataclass(frozen=True)
class Programs:
    """The addresses of the peers."""

    python: Path
    nginx: Path

    @property
    def bin(self) -> Path:
        return self.python.parent

    def versions(self) -> str:
        """The names and versions of the peers, in one line."""
        names = ("vllm-router", "aiohttp", "starlette", "httpx", "uvicorn", "litellm", "uvloop")
        code = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
        others = subprocess.run([self.python, "-c", code, *names], capture_output=True, text=True, check=True)
        nginx = subprocess.run([self.nginx, "-v"], capture_output=True, text=True, check=True).stderr
        return f"{nginx.split(':')[1].strip()}, {others.stdout.strip()}"


def install() -> Programs:
    """Put the peers into the cache, once for each lock: Debian's nginx unpacked, the others in an environment."""
    folder = cache() / "relay" / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    programs = Programs(folder / "bin/python", folder / "nginx/usr/sbin/nginx")
    if not (folder / "done").exists():
        uv = cache() / "uv/bin/uv"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        locked = ["--require-hashes", "-r", str(REQUIREMENTS)]
        subprocess.run([uv, "pip", "install", "--quiet", f"--python={programs.python}", *locked], check=True)
        subprocess.run(["apt-get", "-q", "download", "nginx"], cwd=folder, check=True, capture_output=True)
        (package,) = folder.glob("nginx_*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, folder / "nginx"], check=True)
        (folder / "done").touch()
    return programs


@contextmanager
def standing(name: str, programs: Programs, upstream: int, folder: Path) -> Iterator[tuple[int, int]]:
    """Run one; yields its process id and its port, before it listens."""
    (port, other) = free_ports(2)
    url = f"http://127.0.0.1:{upstream}"
    env = {**os.environ, "PATH": f"{programs.bin}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    if name == "gateway":
        with gateway(upstream, folder) as found:
            yield found
        return
    command: list[str | Path]
    if name == "nginx":
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
        command = [programs.nginx, "-c", folder / "nginx.conf", "-e", folder / "log"]
    elif name == "vllm-router":
        command = [programs.bin / "vllm-router", "--host=127.0.0.1", f"--port={port}", "--worker-urls", url]
        command += ["--policy=round_robin", "--max-concurrent-requests=16384", f"--prometheus-port={other}"]
    elif name == "litellm":
        env["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # it checks no key here
        model = {"model": "hosted_vllm/canned", "api_base": f"{url}/v1", "api_key": "none"}
        settings = {"model_list": [{"model_name": "canned", "litellm_params": model}]}
        (folder / "litellm.yaml").write_text(yaml.safe_dump(settings))
        command = [programs.bin / "litellm", "--config", folder / "litellm.yaml", "--host=127.0.0.1"]
        command += [f"--port={port}", "--num_workers=1", "--telemetry=False"]
    else:
        command = [programs.python, "-m", f"bench.relay.{name}_proxy", str(port), url]
    with running(folder / f"{name}.log", *command, env=env) as process:
        yield process.pid, port


@contextmanager
def standing_gateway(folder: Path, valkey_url: str = "") -> Iterator[Gateway]:
    """The gateway on its own real API server, for the endpoints of the namespace home; jobs in Valkey on request."""
    with ExitStack() as stack:
        kubectl = stack.enter_context(start_control_plane(host_tools(), folder, CRD)).kubectl.within("home")
        for namespace in ("home", "system"):
            kubectl.run("create", "namespace", namespace)
        yield stack.enter_context(running_gateway(kubectl, "system", folder / "gateway.log", valkey_url=valkey_url))


@contextmanager
def gateway(upstream: int, folder: Path) -> Iterator[tuple[int, int]]:
    """The gateway against a real API server, which lists the upstream as a ready pod of an endpoint."""
    with standing_gateway(folder) as found:
        port = found.endpoint("bench", keys=["bench-key-0123456789"], models=["canned"], replicas=1, scaling=None)
        listed = [{"addresses": [own_address()], "conditions": {"ready": True}}]
        found.list_pods("bench-pod", "bench", upstream, listed)
        yield found.process.pid, port
