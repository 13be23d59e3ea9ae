"""Misspelt variables are found; foreign ones pass."""

import pytest

from forebay_operator.status.env_warnings import MAX_COMPARED_NAMES, find_env_warnings, known_names, settable_names

SETTABLE = frozenset({"MAX_MODEL_LEN", "GPU_MEMORY_UTILIZATION", "DTYPE"})
KNOWN = {**dict.fromkeys(SETTABLE, "flag"), "SWAP_SPACE": "removed", "HOST": "reserved", "ROOT_PATH": "refused"}


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("MAX_MODEL_LEM", "MAX_MODEL_LEN"),
        ("MAX_MODELLEN", "MAX_MODEL_LEN"),
        ("MAX_MODEL_LENTH", "MAX_MODEL_LEN"),
        ("GPU_MEMORY_UTILISATION", "GPU_MEMORY_UTILIZATION"),
        ("MAX_MODEL_LEN", None),
        ("NCCL_DEBUG", None),
        ("HTTP_PROXY", None),
        ("DTPYE", "DTYPE"),
        ("max_model_len", "MAX_MODEL_LEN"),
        ("Gpu-Memory-Utilization ", "GPU_MEMORY_UTILIZATION"),
        ("DYTP", None),
    ],
)
def test_a_near_miss_is_reported(name: str, suggestion: str | None) -> None:
    found = find_env_warnings([{"name": name}], KNOWN, SETTABLE)
    assert found == ([f"spec.env: {name} is not known to the server; did you mean {suggestion}?"] if suggestion else [])


@pytest.mark.parametrize(("name", "reason"), [("SWAP_SPACE", "vLLM has removed it"), ("HOST", "it never sets a flag")])
def test_a_variable_without_effect_is_reported(name: str, reason: str) -> None:
    (sentence,) = find_env_warnings([{"name": name}], KNOWN, SETTABLE)
    assert sentence.startswith(f"spec.env: {name} has no effect: {reason}")


def test_the_operator_knows_the_variables_of_the_server() -> None:
    assert {"MODEL_NAME", "MAX_MODEL_LEN", "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "HF_TOKEN"} <= settable_names()
    assert known_names()["ROOT_PATH"] == "refused"
    assert not {"ROOT_PATH", "HOST", "SWAP_SPACE"} & settable_names()


def test_only_the_first_of_many_unknown_names_are_compared() -> None:
    env = [{"name": f"MAX_MODEL_LE{letter}{number}"} for number in range(9) for letter in "ABCDEFGHIJKL"]
    found = find_env_warnings([*env, {"name": "SWAP_SPACE"}], KNOWN, SETTABLE)
    assert len(found) == MAX_COMPARED_NAMES + 1
    assert found[-1].startswith("spec.env: SWAP_SPACE has no effect")
