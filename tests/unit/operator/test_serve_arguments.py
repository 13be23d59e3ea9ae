"""spec.args in the forms that recipes have."""

import pytest

from forebay_operator.spec.serve_arguments import find_flags, find_values, split_arguments
from forebay_protocol.refused_flags import REFUSED_FLAGS


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], []),
        (["--max-model-len=8192"], ["--max-model-len=8192"]),
        (["--max-model-len", "8192"], ["--max-model-len", "8192"]),
        (["--max-model-len 8192"], ["--max-model-len", "8192"]),
        (["--enforce-eager\n"], ["--enforce-eager"]),
        (["-tp 2"], ["-tp", "2"]),
        (["--seed", "-1"], ["--seed", "-1"]),
        (["--served-model-name a 'b c'"], ["--served-model-name", "a", "b c"]),
        (["--seed 1 --enforce-eager"], ["--seed", "1", "--enforce-eager"]),
        (["--seed 1 \\\n  --enforce-eager \\\n"], ["--seed", "1", "--enforce-eager"]),
        (['--hf-overrides={"a b": 1}'], ['--hf-overrides={"a b": 1}']),
        (['--hf-overrides {"a": "b c"}'], ["--hf-overrides", '{"a": "b c"}']),
        (['--hf-overrides \'{"a": "b c"}\''], ["--hf-overrides", '{"a": "b c"}']),
        (["--hf-overrides", '{"a": "b c"}'], ["--hf-overrides", '{"a": "b c"}']),
        (["--chat-template", "a 'b\n"], ["--chat-template", "a 'b\n"]),
        (["--chat-template={{ it's }}\n"], ["--chat-template={{ it's }}\n"]),
        (["--speculative-config.method ngram"], ["--speculative-config.method", "ngram"]),
    ],
)
def test_an_item_is_split_as_a_shell_would(items: list[str], words: list[str]) -> None:
    assert list(split_arguments(items)) == words


def test_flags_are_found_in_every_spelling() -> None:
    words = ["--api_key=k", "x", "--max-model-len", "8", "-tp", "2", "--a.b=1"]
    assert find_flags(words) == ["API_KEY", "MAX_MODEL_LEN", "A"]
    assert set(find_flags(f"--{name.lower().replace('_', '-')}" for name in REFUSED_FLAGS)) == set(REFUSED_FLAGS)


def test_the_last_use_of_a_flag_has_its_values() -> None:
    words = ["--names", "a", "b", "--seed", "1", "--names=c", "d", "-x", "e"]
    assert find_values(words, "NAMES") == ("c",)
    assert find_values(words[:5], "NAMES") == ("a", "b")
    assert find_values(words, "OTHER") == ()
