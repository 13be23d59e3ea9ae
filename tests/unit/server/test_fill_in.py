"""A suffix becomes a part of the prompt, with the tokens of the model's family, or is refused."""

from types import SimpleNamespace
from typing import Any

import pytest

from forebay_server.api_compat.fill_in import TOKENS, FillIn, apply_suffix, find_fill_in
from forebay_server.api_compat.incompatible import Incompatible

QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


def fill_in(*tokens: str) -> FillIn | None:
    """For a tokenizer that has these tokens, numbered from 0."""
    return find_fill_in(lambda text: tokens.index(text) if text in tokens else None)


def request(**fields: Any) -> SimpleNamespace:
    absent: dict[str, Any] = {
        "echo": False,
        "prompt_embeds": None,
        "truncate_prompt_tokens": None,
        "stop_token_ids": [],
    }
    return SimpleNamespace(**{**absent, "prompt": "a(", "suffix": ")", **fields})


@pytest.mark.parametrize(
    ("tokens", "prompt"),
    [
        (QWEN, "<|fim_prefix|>a(<|fim_suffix|>)<|fim_middle|>"),
        (("<fim_prefix>", "<fim_suffix>", "<fim_middle>"), "<fim_prefix>a(<fim_suffix>)<fim_middle>"),
        (("<fim-prefix>", "<fim-suffix>", "<fim-middle>"), "<fim-prefix>a(<fim-suffix>)<fim-middle>"),
        (("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"), "<｜fim▁begin｜>a(<｜fim▁hole｜>)<｜fim▁end｜>"),
        (("▁<PRE>", "▁<SUF>", "▁<MID>"), "▁<PRE>a(▁<SUF>)▁<MID>"),
        (("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>"), "<[fim-suffix]>)<[fim-prefix]>a(<[fim-middle]>"),
        (("[PREFIX]", "[SUFFIX]"), "[SUFFIX])[PREFIX]a("),
    ],
)
def test_the_tokens_of_the_tokenizer_decide_how_the_prompt_is_written(tokens: tuple[str, ...], prompt: str) -> None:
    completion = request()
    apply_suffix(completion, fill_in(*tokens))
    assert (completion.prompt, completion.suffix) == (prompt, None)
    assert completion.stop_token_ids == list(range(len(tokens)))


def test_a_tokenizer_with_only_some_of_the_tokens_is_not_used() -> None:
    assert fill_in(*QWEN[:2]) is None
    assert fill_in() is None


def test_a_response_ends_at_the_end_token_of_the_family() -> None:
    completion = request(stop_token_ids=[99])
    apply_suffix(completion, fill_in("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"))
    assert completion.stop_token_ids == [99, 0, 1, 2, 3]


def test_several_prompts_share_the_suffix() -> None:
    completion = request(prompt=["a", "b"])
    apply_suffix(completion, fill_in(*QWEN))
    assert completion.prompt == [f"<|fim_prefix|>{text}<|fim_suffix|>)<|fim_middle|>" for text in "ab"]


@pytest.mark.parametrize(
    "fields",
    [
        {"echo": True},
        {"prompt_embeds": b"x"},
        {"truncate_prompt_tokens": 10},
        {"prompt": [1, 2]},
        {"prompt": [[1], [2]]},
        {"prompt": ["a", [1]]},
        {"prompt": []},
        {"prompt": None},
    ],
)
def test_fields_that_conflict_with_a_suffix_are_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(Incompatible) as refused:
        apply_suffix(request(**fields), fill_in(*QWEN))
    assert (refused.value.error.status, refused.value.error.param) == (400, "suffix")


def test_a_suffix_is_not_copied_into_any_number_of_prompts() -> None:
    with pytest.raises(Incompatible):
        apply_suffix(request(prompt=["a"] * 1000, suffix="x" * 100_000), fill_in(*QWEN))


def test_without_a_suffix_or_tokens_the_request_passes_to_vllm() -> None:
    without = request(suffix=None, echo=True)
    apply_suffix(without, fill_in(*QWEN))
    assert without == request(suffix=None, echo=True)
    completion = request()
    apply_suffix(completion, None)
    assert completion == request()


def test_no_two_families_share_their_tokens() -> None:
    assert len({(tokens.before, tokens.after) for tokens in TOKENS.values()}) == len(TOKENS)
