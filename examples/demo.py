"""The main job, shown: install Forebay into the cluster, apply an endpoint, ask it a question, and once more as a job.

`make demo` runs this after it has made the cluster and the images. Run again, it changes nothing that is right.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import kind, tools
from cluster.images import images
from cluster.pins import ROOT
from cluster.steps import StepFailed, elapsed, output, say, step

ENDPOINT = "smollm2"
GATEWAY = "forebay-gateway"
MANIFEST = ROOT / "examples/smollm2.yaml"
QUESTION = "What is the capital of France?"
READY_TIMEOUT = 600.0


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--name", default="forebay", help="the kind cluster to use (default: %(default)s)")
    cluster = parser.parse_args().name
    env = kind.environment(cluster)
    try:
        install(env)
        with step(f"applying {MANIFEST.relative_to(ROOT)}") as applying:
            applying.run(["kubectl", "apply", "-f", MANIFEST], env=env)
        wait_until_ready(env)
        ask(env)
    except StepFailed as failure:
        say(str(failure))
        return 1
    explain(cluster)
    return 0


def install(env: Mapping[str, str]) -> None:
    """Install the chart, or bring an installed one up to date. An unchanged release gets no new revision."""
    values = chart_values(images())
    release = ["forebay", "--namespace=forebay-system"]
    chart = [*release, str(ROOT / "charts/forebay"), f"--set-json={json.dumps(values)}"]
    with step("installing the chart with Helm", "kubectl -n forebay-system describe pods") as installing:
        if is_installed(release, chart, values, env):
            say("    it is installed as it should be")
            return
        installing.progress = lambda: "operator, gateways and Valkey start"
        waiting = ["--create-namespace", "--wait", "--timeout=3m"]
        installing.run(["helm", "upgrade", "--install", *chart, *waiting], env=env)


def chart_values(made: Mapping[str, str]) -> dict[str, Any]:
    """The chart's values for these images. Valkey needs no volume here: the demo's jobs may be lost with the
    cluster."""

    def split(reference: str) -> dict[str, str]:
        repository, tag = reference.rsplit(":", 1)
        return {"repository": repository, "tag": tag}

    vllm = made["vllm-cpu"]
    return {
        "image": split(made["operator"]),
        "server": {"image": split(made["forebay-server"]), "cpuImage": vllm, "gpuImage": vllm},
        "valkey": {"image": {"registry": "", **split(made["valkey"])}, "storage": ""},
    }


def is_installed(
    release: Sequence[str], chart: Sequence[str], values: Mapping[str, Any], env: Mapping[str, str]
) -> bool:
    """Whether the release is what Helm would install now, and is in the cluster as it was installed."""
    found = json.loads(output(["helm", "status", *release, "--output=json"], env=env) or "{}")
    if found.get("info", {}).get("status") != "deployed" or found["config"] != values:
        return False
    manifest = output(["helm", "template", *chart], env=env)
    if manifest != found["manifest"].strip():
        return False
    # As another manager, since what Helm adds of its own accord is not in the manifest.
    diff = ["kubectl", "diff", "--server-side", "--force-conflicts", "--field-manager=forebay-demo", "--filename=-"]
    return subprocess.run(diff, input=manifest, env=env, text=True, capture_output=True, check=False).returncode == 0


def wait_until_ready(env: Mapping[str, str]) -> None:
    """Follow the endpoint until it is Ready, and print each change of its state.

    Raises:
        StepFailed: it stalled, or took longer than ten minutes.
    """
    remedy = f"kubectl describe iep {ENDPOINT}"
    with step(f"waiting for the endpoint {ENDPOINT}", remedy) as waiting:
        began, last_state = time.monotonic(), ""
        waiting.progress = lambda: last_state
        while time.monotonic() - began < READY_TIMEOUT:
            found = json.loads(output(["kubectl", "get", "iep", ENDPOINT, "-o", "json"], env=env) or "{}")
            conditions = read_conditions(found)
            ready = conditions.get("Ready", {})
            state = f"{ready.get('reason', 'Pending')}: {ready.get('message', '')}"
            if state != last_state:
                say(f"    {elapsed(time.monotonic() - began):>6}  {state}")
                last_state = state
            current = found.get("status", {}).get("observedGeneration") == found.get("metadata", {}).get("generation")
            if current and ready.get("status") == "True" and ready.get("reason") == "Ready":
                return
            if current and conditions.get("Stalled", {}).get("status") == "True":
                raise StepFailed(f"the endpoint stalled; {state}")
            time.sleep(0.5)
        raise StepFailed(f"the endpoint was not ready within {elapsed(READY_TIMEOUT)}; {last_state}")


def read_conditions(endpoint: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The conditions of an endpoint by their type."""
    return {condition["type"]: condition for condition in endpoint.get("status", {}).get("conditions", [])}


def ask(env: Mapping[str, str]) -> None:
    """Ask the question with the official client, which streams the answer to the terminal, and once more as a job."""
    found = output(["kubectl", "get", "secret", f"{ENDPOINT}-api-key", "-o", "jsonpath={.data.api-key}"], env=env)
    key = base64.b64decode(found or "").decode()
    with port_forward(env) as port:
        base = f"http://127.0.0.1:{port}/v2"
        say(f"\n    {QUESTION}")
        run_client("ask.py", OPENAI_BASE_URL=f"{base}/{ENDPOINT}/openai/v1", OPENAI_API_KEY=key)
        say(f"\n    The same as a job: POST /v2/{ENDPOINT}/run, then GET /v2/{ENDPOINT}/status/ID")
        run_client("job.py", RUNPOD_ENDPOINT_BASE_URL=base, RUNPOD_API_KEY=key)


def run_client(program: str, **variables: str) -> None:
    """Ask the question with a program of examples/. Raises StepFailed where it fails."""
    command = [sys.executable, str(ROOT / "examples" / program), ENDPOINT, QUESTION]
    if subprocess.run(command, env=os.environ | variables, check=False).returncode:
        raise StepFailed(f"{program} got no answer", f"kubectl logs deploy/{ENDPOINT}")


@contextmanager
def port_forward(env: Mapping[str, str]) -> Iterator[int]:
    """A local port that leads to the gateway, which has all endpoints, while the context lasts."""
    command = ["kubectl", "--namespace=forebay-system", "port-forward", f"svc/{GATEWAY}", ":80", "--address=127.0.0.1"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as forward:
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            if "127.0.0.1:" not in line:
                raise StepFailed("kubectl port-forward did not start", f"kubectl get svc,pods; it said: {line.strip()}")
            yield int(line.split("127.0.0.1:")[1].split()[0])
        finally:
            forward.terminate()


def explain(cluster: str) -> None:
    """Say what to do next."""
    program = Path(sys.executable)
    shown = program.relative_to(ROOT) if program.is_relative_to(ROOT) else program
    print(f"""
The cluster stays up. To use it from this shell:

  export KUBECONFIG={kind.kubeconfig(cluster)}
  export PATH={tools.host_tools()}:$PATH

  kubectl get iep -o wide                                  # all endpoints, with their URLs inside the cluster
  kubectl describe iep {ENDPOINT}                             # why it is in the state it is in
  kubectl scale iep {ENDPOINT} --replicas=2                   # two servers behind one Service
  kubectl port-forward -n forebay-system svc/{GATEWAY} 8000:80 &   # all endpoints on this machine

  export OPENAI_BASE_URL=http://localhost:8000/v2/{ENDPOINT}/openai/v1
  export OPENAI_API_KEY=$(kubectl get secret {ENDPOINT}-api-key -o jsonpath='{{.data.api-key}}' | base64 -d)
  {shown} examples/ask.py {ENDPOINT} "Why is the sky blue?"
  export RUNPOD_ENDPOINT_BASE_URL=http://localhost:8000/v2 RUNPOD_API_KEY=$OPENAI_API_KEY
  {shown} examples/job.py {ENDPOINT} "Why is the sky blue?"

make down takes all of it away.""")


if __name__ == "__main__":
    sys.exit(main())
