"""The server as its image has it, run by docker alone."""

import json
import subprocess

import pytest

from cluster.images import reference
from cluster.pins import ROOT
from forebay_operator.spec import REFUSED_VARIABLES
from forebay_operator.status.env_warnings import known_names
from tests.kubectl import Kubectl

EVERY_FLAG = ROOT / "tests/vllm/every_flag.py"
SOURCES = (
    f"--volume={ROOT}/server/src:/server:ro",
    f"--volume={ROOT}/protocol/src:/protocol:ro",
    "--env=PYTHONPATH=/server:/protocol",
)


def test_the_operator_knows_the_variables_of_the_server_image(cluster: Kubectl) -> None:
    """`make names` writes the operator's list again."""
    command = ["docker", "run", "--rm", reference("server"), "flags", "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    entries = {entry["name"]: entry["status"] for entry in json.loads(printed)}
    assert known_names() == entries
    refused = {name for name, status in entries.items() if status == "refused"}
    assert REFUSED_VARIABLES.keys() == refused | {"MODEL_NAME"}


@pytest.mark.parametrize(("name", "options"), [("server", ()), ("vllm-026", SOURCES), ("vllm-033", SOURCES)])
def test_every_flag_of_vllm_can_be_set_by_its_name(cluster: Kubectl, name: str, options: tuple[str, ...]) -> None:
    isolated = ["--network=none", "--read-only", "--tmpfs=/tmp", "--env=HOME=/tmp", "--entrypoint=python3"]
    command = ["docker", "run", "--rm", "-i", *isolated, *options, reference(name), "-"]
    text = EVERY_FLAG.read_text()
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
