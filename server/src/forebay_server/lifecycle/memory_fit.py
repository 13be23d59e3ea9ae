"""Estimates from a model's config whether it fits the GPUs, before its weights are fetched or loaded.

Estimates are lower bounds, as some sizes are unknown (activations, CUDA graphs, adapters, a draft model). So a model
that would run is never rejected. vLLM measures the others. tests/vllm/test_fit.py compares the estimates with the
parameters that transformers counts and the KV cache that vLLM plans.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from forebay_server.failure import Failure, StartError

logger = logging.getLogger(__name__)

Config = Mapping[str, Any]
"""A model's config.json."""

GIB = 1 << 30

FIT_TOLERANCE = 0.98
"""Estimates may be too large by 2%. A model is rejected only if even this fraction of its estimate does not fit."""

BYTES = {"float32": 4.0, "float": 4.0, "float16": 2.0, "half": 2.0, "bfloat16": 2.0}
KV_BYTES = {"fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "fp8_inc": 1.0, **BYTES}
QUANTIZED_BYTES = {"fp8": 1.0, "fp8_per_tensor": 1.0, "fp8_per_block": 1.0, "bitsandbytes": 0.5}
"""Quantization that vLLM applies while it loads -> bytes of a weight."""

QKV_BIAS = frozenset({"qwen2", "qwen2_moe"})
HEAD_NORMS = frozenset({"qwen3", "qwen3_moe", "gemma3_text"})
"""model_type of models with a norm on each head of queries and keys."""
FOUR_NORMS = frozenset({"gemma2", "gemma3_text"})
EXPERTS = frozenset({"mixtral", "qwen2_moe", "qwen3_moe"})
KNOWN_MODEL_TYPES = frozenset({"llama", "mistral", "phi3", "gemma", *QKV_BIAS, *HEAD_NORMS, *FOUR_NORMS, *EXPERTS})
"""model_type of the models whose parameters and KV cache can be counted."""

TIED = frozenset({"gemma", "gemma2", "gemma3_text"})
"""model_type of models whose output layer is the embedding unless the config says otherwise."""


@dataclass(frozen=True)
class MemoryNeed:
    """A model, and the settings that decide how much memory it needs."""

    model: str
    config: Config
    weight_file_bytes: int = 0
    """Bytes of the weight files; 0 if unknown."""
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    """Tokens; None for the config's limit."""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    gpu_memory_utilization: float = 0.92
    max_num_batched_tokens: int = 8192
    """The default of vLLM 0.32 and 0.33 on large GPUs. It affects sliding windows only."""
    block_size: int = 16


def text_config(config: Config) -> Config:
    """The part of a config that describes the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def parameters(config: Config) -> int | None:
    """Count the model's parameters. Returns None for an unknown architecture."""
    config = text_config(config)
    kind = config.get("model_type")
    if kind not in KNOWN_MODEL_TYPES:
        return None
    hidden, layers, vocabulary = config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]
    heads, kv_heads, head = _heads(config)
    queries, keys = heads * head, kv_heads * head
    attention = hidden * (2 * queries + 2 * keys)
    if kind in QKV_BIAS or config.get("attention_bias"):
        attention += queries + 2 * keys
    if kind not in QKV_BIAS and config.get("attention_bias"):
        attention += hidden
    if kind in HEAD_NORMS:
        attention += 2 * head
    norms = hidden * (4 if kind in FOUR_NORMS else 2)
    feed_forward = sum(_feed_forward(config, layer) for layer in range(layers))
    tied = config.get("tie_word_embeddings", kind in TIED)
    embeddings = vocabulary * hidden * (1 if tied else 2)
    return int(embeddings + layers * (attention + norms) + feed_forward + hidden)


def _feed_forward(config: Config, layer: int) -> int:
    hidden = config["hidden_size"]
    kind = config["model_type"]
    if kind == "mixtral":
        return int(config["num_local_experts"] * (3 * hidden * config["intermediate_size"] + hidden))
    sparse = kind in EXPERTS and layer not in (config.get("mlp_only_layers") or ())
    if sparse and (layer + 1) % config.get("decoder_sparse_step", 1) == 0:
        experts = config["num_experts"] * (3 * hidden * config["moe_intermediate_size"] + hidden)
        shared = config.get("shared_expert_intermediate_size") or 0
        return int(experts + (3 * hidden * shared + hidden if shared else 0))
    bias = (2 * config["intermediate_size"] + hidden) if config.get("mlp_bias") else 0
    return int(3 * hidden * config["intermediate_size"] + bias)


def _heads(config: Config) -> tuple[int, int, int]:
    """Number of query heads, number of key heads, size of a head."""
    heads = int(config["num_attention_heads"])
    return (
        heads,
        int(config.get("num_key_value_heads") or heads),
        int(config.get("head_dim") or config["hidden_size"] // heads),
    )


def weight_bytes(need: MemoryNeed) -> int | None:
    """Bytes of all weights on all GPUs together; None if unknown."""
    inner = text_config(need.config)
    stored = str(need.config.get("dtype") or need.config.get("torch_dtype") or inner.get("dtype") or "float16")
    dtype = stored if need.dtype == "auto" else need.dtype
    if dtype == "float32" and need.dtype == "auto":
        dtype = "bfloat16"  # as vLLM does
    if need.config.get("quantization_config"):
        return need.weight_file_bytes or None
    size = BYTES.get(dtype, 2.0)
    if need.weight_file_bytes:
        in_memory = need.weight_file_bytes * size / BYTES.get(stored, size)
    elif (count := parameters(need.config)) is not None:
        in_memory = count * size
    else:
        return None
    return int(in_memory * QUANTIZED_BYTES.get(need.quantization or "", size) / size)


def longest(config: Config) -> int | None:
    """The most tokens of a request that the config allows; None if it has no limit."""
    config = text_config(config)
    length = config.get("max_position_embeddings")
    return int(length) if length else None


def kv_bytes(need: MemoryNeed, tokens: int) -> int:
    """The bytes that the KV cache of a request with `tokens` needs on one GPU; 0 for an unknown architecture."""
    config = text_config(need.config)
    if config.get("model_type") not in KNOWN_MODEL_TYPES:
        return 0
    _, kv_heads, head = _heads(config)
    stored = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    size = KV_BYTES.get(need.kv_cache_dtype, 2.0 if stored == "float32" else BYTES.get(stored, 2.0))
    per_token = 2 * max(1, ceil(kv_heads / need.tensor_parallel)) * head * size
    window = _window(config)
    total = 0.0
    for layer in range(config["num_hidden_layers"]):
        blocks = ceil(tokens / need.block_size)
        if window and _slides(config, layer):
            visible = min(window - 1 + need.max_num_batched_tokens, tokens)
            blocks = min(blocks, ceil(visible / need.block_size) + 1)
        total += blocks * need.block_size * per_token
    return int(total / need.pipeline_parallel)


def _window(config: Config) -> int:
    if not config.get("use_sliding_window", True):
        return 0
    return int(config.get("sliding_window") or 0)


def _slides(config: Config, layer: int) -> bool:
    kinds = config.get("layer_types")
    if kinds:
        return bool(kinds[layer] == "sliding_attention")
    if config["model_type"] == "gemma2":
        return layer % 2 == 0
    if config["model_type"] == "gemma3_text":
        return bool((layer + 1) % config.get("sliding_window_pattern", 6))
    return layer >= int(config.get("max_window_layers", 0))


def assess_fit(need: MemoryNeed, gpus: Sequence[int]) -> Failure | None:
    """The Failure for a model that cannot fit `gpus` (bytes of each), with advice; None if it may fit."""
    weights = weight_bytes(need)
    if not gpus or weights is None:
        return None
    room = min(gpus) * need.gpu_memory_utilization
    share = weights / (need.tensor_parallel * need.pipeline_parallel)
    tokens = need.max_model_len or longest(need.config) or 0
    needed = kv_bytes(need, tokens)
    if share * FIT_TOLERANCE > room:
        return Failure(
            "OutOfMemoryWeights",
            f"The weights of {need.model} need {_gib(share)} GiB on each of {_gpus(need)}, which has "
            f"{_gib(min(gpus))} GiB, {_gib(room)} of it for vLLM.",
            _advice(need, gpus, tokens),
        )
    if (share + needed) * FIT_TOLERANCE > room:
        return Failure(
            "MaxModelLenTooLarge",
            f"{need.model} needs {_gib(share)} GiB for its weights and {_gib(needed)} GiB for the KV cache of one "
            f"request of {tokens} tokens on each of {_gpus(need)}, which has {_gib(room)} GiB for vLLM.",
            _advice(need, gpus, tokens),
        )
    return None


def fits(need: MemoryNeed, gpu: int, tokens: int) -> bool:
    """Whether the weights and a request of `tokens` fit GPUs of `gpu` bytes."""
    weights = weight_bytes(need) or 0
    share = weights / (need.tensor_parallel * need.pipeline_parallel)
    return share + kv_bytes(need, tokens) <= gpu * need.gpu_memory_utilization


def longest_that_fits(need: MemoryNeed, gpu: int, limit: int) -> int:
    """The most tokens of a request that fit, in steps of 256; 0 if not even 256 fit."""
    low, high = 0, limit // 256
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(need, gpu, middle * 256) else (low, middle - 1)
    return low * 256


def _advice(need: MemoryNeed, gpus: Sequence[int], tokens: int) -> str:
    """A sentence that lists changes. Each of them alone would suffice."""
    ways = []
    gpu = min(gpus)
    heads = int(text_config(need.config).get("num_attention_heads") or 0)  # 0: unknown, any count may do
    for count in (2, 4, 8):
        more = replace(need, tensor_parallel=count)
        if count > need.tensor_parallel and heads % count == 0 and fits(more, gpu, tokens):
            ways.append(f"{count} such GPUs (spec.gpu.count: {count} and TENSOR_PARALLEL_SIZE={count})")
            break
    if length := longest_that_fits(need, gpu, tokens):
        ways.append(f"a shorter length (MAX_MODEL_LEN={length})")
    quantized = replace(need, quantization="fp8")
    can_be_quantized = not need.quantization and not need.config.get("quantization_config")
    if can_be_quantized and fits(quantized, gpu, tokens):
        ways.append("quantization (QUANTIZATION=fp8, or a repository with the model in 4 or 8 bits)")
    weights = weight_bytes(need) or 0
    whole = (weights / need.tensor_parallel / need.pipeline_parallel + kv_bytes(need, tokens)) / (
        need.gpu_memory_utilization or 1
    )
    ways.append(f"GPUs of at least {ceil(whole / GIB) + 1} GiB")
    return "It would run with " + ", or ".join(ways) + "."


def _gpus(need: MemoryNeed) -> str:
    count = need.tensor_parallel * need.pipeline_parallel
    return f"{count} GPUs" if count > 1 else "the GPU"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"


def need_of(model: str, config: Config, weight_file_bytes: int, parsed: argparse.Namespace) -> MemoryNeed | None:
    """The MemoryNeed for vLLM's parsed arguments; None if they change the model so that its config does not apply."""
    if parsed.hf_overrides or getattr(parsed, "cpu_offload_gb", 0) or parsed.load_format == "dummy":
        return None
    length = parsed.max_model_len
    return MemoryNeed(
        model=model,
        config=config,
        weight_file_bytes=weight_file_bytes,
        dtype=str(parsed.dtype),
        quantization=parsed.quantization,
        kv_cache_dtype=str(parsed.kv_cache_dtype),
        max_model_len=256 if length == -1 else length,  # -1: vLLM takes the longest that fits
        tensor_parallel=parsed.tensor_parallel_size,
        pipeline_parallel=parsed.pipeline_parallel_size,
        gpu_memory_utilization=parsed.gpu_memory_utilization,
        max_num_batched_tokens=parsed.max_num_batched_tokens or MemoryNeed.max_num_batched_tokens,
    )


def check_memory(need: MemoryNeed | None, gpus: Sequence[int]) -> None:
    """Raise StartError for a model that cannot fit. If the config of the model lacks fields, only vLLM itself checks
    the model."""
    try:
        failure = assess_fit(need, gpus) if need is not None else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        logger.warning("Whether the model fits was not estimated: %r in its config.json", error)
        return
    if failure:
        raise StartError(failure)
