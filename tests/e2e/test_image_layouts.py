"""Dockerfile.server on a base with the layout of the official GPU image: vLLM in the system's Python, no venv, root by
default with a user 2000 of group 0 beside it, and `vllm serve` as the entry point."""

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.images import reference
from cluster.pins import ROOT
from tests.kubectl import Kubectl

GPU_LAYOUT = """
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin VIRTUAL_ENV= HOME=/root
RUN useradd --uid 2000 --gid 0 --create-home --home-dir /home/vllm vllm \\
 && ls -d /opt/venv/lib/python3*/site-packages \\
  > "$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib", "posix_local"))')/vllm.pth" \\
 && printf '#!/usr/bin/python3\\nfrom vllm.entrypoints.cli.main import main\\nmain()\\n' > /usr/local/bin/vllm \\
 && chmod 755 /usr/local/bin/vllm
ENTRYPOINT ["vllm", "serve"]
"""

NAME = "forebay.local/test-gpu-layout"

ASK = """
import json, urllib.request
body = json.dumps({"prompt": "Hello", "max_tokens": 3}).encode()
request = urllib.request.Request("http://127.0.0.1:8000/v1/completions", body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=30).read().decode())
"""

POD = (
    "--read-only",
    "--user=2000:0",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--tmpfs=/tmp",
    "--tmpfs=/cache:uid=2000,mode=0775",
)
"""As the operator runs it."""


def docker(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def image(cluster: Kubectl) -> str:
    docker("build", "-q", "-t", NAME, "--build-arg", f"BASE_IMAGE={reference('vllm-cpu')}", "-", stdin=GPU_LAYOUT)
    server = ["-f", str(ROOT / "Dockerfile.server"), "-t", f"{NAME}-server", "--build-arg", f"BASE_IMAGE={NAME}"]
    docker("build", "-q", *server, str(ROOT))
    return f"{NAME}-server"


@pytest.fixture
def container(image: str, tmp_path: Path) -> Iterator[str]:
    """The server with a tiny model without weights."""
    make = f"--volume={ROOT}/cluster/images/vllm-canned/make_model.py:/make_model.py:ro"
    target = f"--volume={tmp_path}:/target"
    docker("run", "--rm", "--user=0:0", make, target, "--entrypoint=python3", image, "/make_model.py", "/target/model")
    name = f"forebay-layout-{uuid.uuid4().hex[:8]}"
    variables = {
        "MODEL_NAME": "/model",
        "LOAD_FORMAT": "dummy",
        "KV_CACHE_MEMORY_BYTES": "16M",
        "FOREBAY_AUTH": "None",
        "FOREBAY_TERMINATION_LOG": "/tmp/termination-log",
    }
    settings = [f"--env={key}={value}" for key, value in variables.items()]
    docker("run", "-d", "--name", name, *POD, f"--volume={tmp_path}/model:/model:ro", *settings, image)
    yield name
    docker("rm", "-f", name)


def test_the_server_runs_on_the_layout_of_the_gpu_image(container: str) -> None:
    probe = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8001/readyz', timeout=5)"
    deadline = time.monotonic() + 120
    asked = ["docker", "exec", container, "python3", "-c", probe]
    while subprocess.run(asked, check=False, capture_output=True).returncode:
        state = docker("inspect", "--format={{.State.Running}}", container).strip()
        assert state == "true", docker("logs", container)[-3000:]
        assert time.monotonic() < deadline, docker("logs", container)[-3000:]
        time.sleep(1)
    where = docker("exec", container, "python3", "-c", "import sys, os; print(sys.prefix, os.getuid(), os.getgid())")
    assert where.split() == ["/usr", "2000", "0"]
    answer = json.loads(docker("exec", container, "python3", "-c", ASK))
    assert answer["usage"]["completion_tokens"] == 3
    docker("stop", "--time=60", container)
    assert docker("inspect", "--format={{.State.ExitCode}}", container).strip() == "0"
