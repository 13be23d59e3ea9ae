"""Models that classify, score and embed; random weights, so tests check the shape of the answers."""

import pytest

from tests.vllm.server import NAME, Server
from tests.vllm.server_calls import ask, assert_not_available, both_urls, client

pytestmark = pytest.mark.gate


@both_urls
def test_texts_are_classified(classifier: Server, base: str) -> None:
    status, content = ask(classifier, f"{base}/classify", model=NAME, input=["Hello", "Buy now"])
    assert status == 200, content
    assert [item["label"] in ("safe", "spam", "rude") for item in content["data"]] == [True, True]
    assert all(len(item["probs"]) == 3 and abs(sum(item["probs"]) - 1) < 0.01 for item in content["data"])


@both_urls
def test_a_classifier_moderates(classifier: Server, base: str) -> None:
    status, content = ask(classifier, f"{base}/moderations", model="omni-moderation-latest", input=["Hello", "Buy"])
    assert status == 200, content
    assert content["id"].startswith("modr-")
    for result in content["results"]:
        scores = result["category_scores"]
        assert scores.keys() == result["categories"].keys() == {"safe", "spam", "rude"}
        assert result["categories"] == {label: score >= 0.5 for label, score in scores.items()}
        assert result["flagged"] == (result["categories"]["spam"] or result["categories"]["rude"])
    (result,) = client(classifier, base).moderations.create(input="Hello").results
    assert isinstance(result.flagged, bool)


@both_urls
@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("completions", {"prompt": "Hi"}),
        ("responses", {"input": "Hi"}),
        ("messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}),
        ("embeddings", {"input": "Hi"}),
        ("audio/transcriptions", {}),
        ("audio/speech", {"input": "Hi"}),
    ],
)
def test_a_classifier_reports_unsupported_routes(
    classifier: Server, base: str, route: str, body: dict[str, object]
) -> None:
    assert_not_available(ask(classifier, f"{base}/{route}", model=NAME, **body))


@both_urls
def test_pairs_are_scored(scorer: Server, base: str) -> None:
    status, content = ask(scorer, f"{base}/score", model=NAME, queries="Who?", documents=["Me", "You", "They"])
    assert status == 200, content
    assert [item["index"] for item in content["data"]] == [0, 1, 2]
    assert all(0 <= item["score"] <= 1 for item in content["data"])


@both_urls
def test_documents_are_ranked(scorer: Server, base: str) -> None:
    status, content = ask(scorer, f"{base}/rerank", model=NAME, query="Who?", documents=["Me", "You", "They"], top_n=2)
    assert status == 200, content
    first, second = content["results"]
    assert first["relevance_score"] >= second["relevance_score"]
    assert first["document"]["text"] == ["Me", "You", "They"][first["index"]]


@both_urls
def test_texts_are_embedded(embedder: Server, base: str) -> None:
    answer = client(embedder, base).embeddings.create(model=NAME, input=["Hello", "World", "Hello"])
    hello, world, again = (item.embedding for item in answer.data)
    assert len(hello) == 64
    assert abs(sum(value * value for value in hello) - 1) < 0.01, "of length one"
    assert hello == pytest.approx(again, abs=0.01)
    assert hello != world
    assert answer.usage.prompt_tokens == 15


@both_urls
def test_an_embedder_scores_and_ranks_by_likeness(embedder: Server, base: str) -> None:
    status, content = ask(embedder, f"{base}/score", model=NAME, queries="Hello", documents=["Hello", "x"])
    assert status == 200, content
    assert content["data"][0]["score"] == pytest.approx(1, abs=0.02)
    status, content = ask(embedder, f"{base}/rerank", model=NAME, query="Hello", documents=["x", "Hello"])
    assert status == 200, content
    assert content["results"][0]["index"] == 1


@both_urls
def test_an_embedder_pools_and_tokenizes(embedder: Server, base: str) -> None:
    status, content = ask(embedder, f"{base}/pooling", model=NAME, input="Hello", task="embed")
    assert status == 200, content
    assert len(content["data"][0]["data"]) == 64
    assert ask(embedder, f"{base}/tokenize", model=NAME, prompt="Hello")[1]["count"] == 5


@both_urls
def test_an_embedder_does_not_moderate(embedder: Server, base: str) -> None:
    assert_not_available(ask(embedder, f"{base}/moderations", model=NAME, input="Hello"))
