"""Before Ready a model answers one request of its task: on tiny random models, so the shape of answers only."""

import pytest

from tests.vllm.conftest import Served


@pytest.mark.gate
@pytest.mark.parametrize("model", ["embedder", "classifier", "whisper"])
def test_a_model_that_does_not_generate_answers_its_own_request(served: Served, model: str) -> None:
    metrics = served(model).first_metrics
    assert 'forebay_startup_step{step="Ready"} 1.0' in metrics
    assert "forebay_requests_total 0.0" in metrics, "the server's own request is not a client's"
    tokens = [line.split()[-1] for line in metrics.splitlines() if line.startswith("vllm:prompt_tokens_total{")]
    assert sum(map(float, tokens)) > 0, "the engine worked on it"
