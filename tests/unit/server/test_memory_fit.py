"""Rejection of models before their weights are loaded. The estimates are checked in tests/vllm/test_fit.py."""

import pytest

from forebay_server.failure import StartError
from forebay_server.lifecycle.memory_fit import (
    GIB,
    MemoryNeed,
    assess_fit,
    check_memory,
    kv_bytes,
    longest_that_fits,
    parameters,
    weight_bytes,
)

LLAMA_8B = {
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
WISH = MemoryNeed("llama-8b", LLAMA_8B)
L4, A100, H100 = 24 * GIB, 40 * GIB, 80 * GIB


def need(**changes: object) -> MemoryNeed:
    return MemoryNeed(**{"model": "llama-8b", "config": LLAMA_8B, **changes})  # type: ignore[arg-type]


def test_the_count_of_parameters_matches_the_published_one() -> None:
    assert parameters(LLAMA_8B) == 8_030_261_248
    assert weight_bytes(WISH) == 2 * 8_030_261_248
    assert kv_bytes(WISH, 131072) == 16 * GIB
    assert kv_bytes(need(kv_cache_dtype="fp8", tensor_parallel=2), 131072) == 4 * GIB


@pytest.mark.parametrize(
    ("asked", "gpus", "reason", "advice"),
    [
        ({}, [H100], "", ""),
        ({}, [A100], "", ""),
        ({}, [L4], "MaxModelLenTooLarge", "2 such GPUs (spec.gpu.count: 2 and TENSOR_PARALLEL_SIZE=2)"),
        ({}, [L4], "MaxModelLenTooLarge", "MAX_MODEL_LEN=58112"),
        ({"max_model_len": 8192}, [L4], "", ""),
        ({"tensor_parallel": 2}, [L4, L4], "", ""),
        ({}, [14 * GIB], "OutOfMemoryWeights", "4 such GPUs"),
        ({"max_model_len": 8192}, [14 * GIB], "OutOfMemoryWeights", "QUANTIZATION=fp8"),
        ({"quantization": "fp8", "max_model_len": 8192}, [14 * GIB], "", ""),
        ({"weight_file_bytes": 140 * GIB, "max_model_len": 8192}, [H100], "OutOfMemoryWeights", "2 such GPUs"),
        (
            {"config": {"model_type": "novel"}, "weight_file_bytes": 140 * GIB},
            [H100],
            "OutOfMemoryWeights",
            "at least 154 GiB",
        ),
        ({"config": {"model_type": "novel"}}, [L4], "", ""),
        ({}, [], "", ""),
    ],
)
def test_a_model_that_cannot_fit_is_rejected_with_values_that_fit(
    asked: dict[str, object], gpus: list[int], reason: str, advice: str
) -> None:
    failure = assess_fit(need(**asked), gpus)
    assert (failure.reason if failure else "") == reason, failure
    assert advice in (failure.remedy if failure else "")


def test_the_longest_context_that_fits_is_exact() -> None:
    length = longest_that_fits(WISH, L4, 131072)
    assert assess_fit(need(max_model_len=length), [L4]) is None
    room = L4 * WISH.gpu_memory_utilization
    assert 2 * 8_030_261_248 + kv_bytes(WISH, length + 256) > room


def test_weights_in_files_are_counted_in_their_loaded_type() -> None:
    single = {**LLAMA_8B, "dtype": "float32"}
    assert weight_bytes(need(config=single, weight_file_bytes=32 * GIB)) == 16 * GIB
    assert weight_bytes(need(config=single, weight_file_bytes=32 * GIB, dtype="float32")) == 32 * GIB
    quantized = {**LLAMA_8B, "quantization_config": {"quant_method": "awq"}}
    assert weight_bytes(need(config=quantized, weight_file_bytes=5 * GIB)) == 5 * GIB


def test_an_unreadable_config_passes_to_vllm() -> None:
    check_memory(need(config={"model_type": "llama"}), [L4])
    check_memory(None, [L4])
    with pytest.raises(StartError):
        check_memory(WISH, [L4])
