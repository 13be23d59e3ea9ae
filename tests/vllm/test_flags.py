"""Every flag of the installed vLLM, and the messages about wrong values, from `forebay-server check` itself."""

import json
import os
import subprocess
from pathlib import Path

from tests.vllm.server import environment

PROGRAM = Path(__file__).parent / "every_flag.py"

DEVICE = {name: os.environ[name] for name in ("VLLM_TARGET_DEVICE",) if name in os.environ}
"""cpu for vLLM that was built without kernels, which would otherwise search for a GPU."""


def test_every_flag_is_set_by_its_variable_and_rejects_invalid_values(vllm_python: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [vllm_python, str(PROGRAM)],
        env=environment(tmp_path, DEVICE),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.startswith("{"), done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert report["flags"] > 300
    assert report["right values"] > 700


def test_all_invalid_values_are_reported_together_within_seconds(vllm_python: str, tmp_path: Path) -> None:
    wrong = {
        "MODEL_NAME": "acme/none",
        "MAX_MODEL_LEN": "many",
        "GPU_MEMORY_UTILIZATION": "1.5",
        "DTYPE": "bfloat",
        "SPECULATIVE_CONFIG": '{"methd": "ngram"}',
        "VLLM_EXTRA_ARGS": "--max-modle-len 3",
    }
    done = subprocess.run(
        [vllm_python, "-m", "forebay_server", "check", "--json"],
        env=environment(tmp_path, wrong | DEVICE),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 78, done.stderr
    message = json.loads(done.stdout)["message"]
    for part in (
        "MAX_MODEL_LEN='many': expected a whole number",
        "GPU_MEMORY_UTILIZATION='1.5': it must be less than or equal to 1.",
        "DTYPE='bfloat': expected one of auto,",
        "methd is not known. Did you mean method?",
        "vLLM has no --max-modle-len. Did you mean --max-model-len?",
    ):
        assert part in message


def test_args_of_the_endpoint_override_variables_and_wrong_ones_are_named(vllm_python: str, tmp_path: Path) -> None:
    def check(args: list[str]) -> tuple[int, dict[str, object]]:
        given = {"MODEL_NAME": "acme/none", "MAX_MODEL_LEN": "64", "VLLM_EXTRA_ARGS": "--seed 1 --max-model-len 65"}
        done = subprocess.run(
            [vllm_python, "-m", "forebay_server", "check", "--json"],
            env=environment(tmp_path, {**given, "FOREBAY_ARGS": json.dumps(args)} | DEVICE),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, json.loads(done.stdout)

    code, plan = check(["--max-model-len", "66", "--dtype=float32"])
    assert code == 0
    arguments = plan["arguments"]
    assert isinstance(arguments, list)
    places = [arguments.index(each) for each in ("--max-model-len=64", "65", "66", "--dtype=float32")]
    assert places == sorted(places), "the last use of a flag counts"
    code, failure = check(["--max-modle-len", "3"])
    assert code == 78
    assert failure["message"] == "spec.args: vLLM has no --max-modle-len. Did you mean --max-model-len?"
    code, failure = check(["--gpu-memory-utilization=1.5"])
    assert str(failure["message"]).startswith("spec.args: --gpu-memory-utilization=1.5: it must be less than or equal")
