"""The parts of speculative decoding."""

import json

import pytest

from forebay_server.config.speculative import compose, parts_set


@pytest.mark.parametrize(
    ("parts", "config"),
    [
        (
            {"SPECULATIVE_METHOD": "eagle3", "SPECULATIVE_MODEL": "a/b", "NUM_SPECULATIVE_TOKENS": "3"},
            {"method": "eagle3", "model": "a/b", "num_speculative_tokens": 3},
        ),
        (
            {"NGRAM_PROMPT_LOOKUP_MAX": "4", "NGRAM_PROMPT_LOOKUP_MIN": "2", "NUM_SPECULATIVE_TOKENS": "5"},
            {"method": "ngram", "prompt_lookup_max": 4, "prompt_lookup_min": 2, "num_speculative_tokens": 5},
        ),
        (
            {"SPECULATIVE_MODEL": "[ngram]", "NGRAM_PROMPT_LOOKUP_MAX": "4", "NUM_SPECULATIVE_TOKENS": "5"},
            {"method": "ngram", "prompt_lookup_max": 4, "num_speculative_tokens": 5},
        ),
        ({"SPECULATIVE_METHOD": "mtp"}, {"method": "mtp"}),
    ],
)
def test_parts_become_one_json(parts: dict[str, str], config: dict[str, object]) -> None:
    assert json.loads(compose(parts)) == config


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"NUM_SPECULATIVE_TOKENS": "many"}, "NUM_SPECULATIVE_TOKENS='many': expected a whole number from 1."),
        ({"NUM_SPECULATIVE_TOKENS": "-1"}, "NUM_SPECULATIVE_TOKENS='-1': expected a whole number from 1."),
        ({"NUM_SPECULATIVE_TOKENS": "3"}, "NUM_SPECULATIVE_TOKENS alone is not enough"),
        ({"NGRAM_PROMPT_LOOKUP_MAX": "4"}, "NUM_SPECULATIVE_TOKENS is not set"),
    ],
)
def test_incomplete_parts_are_rejected(parts: dict[str, str], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        compose(parts)


def test_values_0_and_none_count_as_unset() -> None:
    assert parts_set({"NUM_SPECULATIVE_TOKENS": "0", "SPECULATIVE_MODEL": "None", "SPECULATIVE_METHOD": " "}) == {}
