"""Before Ready a model answers one request of its task: on tiny random models, so the shape of answers only."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vllm.server import Server, environment

MAKE = """
import sys
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModel, AutoTokenizer
tokenizer, target, kind = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(tokenizer)
sizes = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
config = AutoConfig.for_model("bert", vocab_size=len(tokenizer), max_position_embeddings=128, pad_token_id=0, **sizes)
config.num_labels = 3
make = AutoModelForSequenceClassification if kind == "classify" else AutoModel
make.from_config(config).save_pretrained(target)
tokenizer.save_pretrained(target)
"""


@pytest.mark.parametrize("kind", ["embed", "classify"])
def test_a_model_that_does_not_generate_answers_its_own_request(
    request: pytest.FixtureRequest, serve: Callable[..., Server], tmp_path: Path, kind: str
) -> None:
    vllm_python, tiny_model = request.getfixturevalue("vllm_python"), request.getfixturevalue("tiny_model")
    folder = tmp_path / "bert"
    command = [vllm_python, "-c", MAKE, str(tiny_model), str(folder), kind]
    subprocess.run(command, check=True, env=environment(tmp_path), timeout=120)
    server = serve(MODEL_NAME=str(folder), LOAD_FORMAT="auto", MAX_MODEL_LEN="128", RUNNER="pooling")
    server.wait_for("/readyz")
    _, metrics = server.ops("/metrics")
    assert 'forebay_startup_step{step="Ready"} 1.0' in metrics
    assert "forebay_requests_total 0.0" in metrics, "the server's own request is not a client's"
    tokens = [line.split()[-1] for line in metrics.splitlines() if line.startswith("vllm:prompt_tokens_total{")]
    assert sum(map(float, tokens)) > 0, "the engine worked on it"
