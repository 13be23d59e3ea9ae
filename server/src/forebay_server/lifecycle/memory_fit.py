"""Whether a model fits the GPUs, from its config alone: before its weights are fetched or loaded.

Estimates are lower bounds where something is not known (activations, CUDA graphs, adapters, a draft model), so that
nothing is refused that would run; what they let pass, vLLM measures. Checked by tests/vllm/test_fit.py against the
parameters that transformers counts and the KV cache that vLLM plans.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from forebay_server.failure import Failure, StartError

log = logging.getLogger(__name__)

Config = Mapping[str, Any]
"""A model's config.json."""

GIB = 1 << 30

FIT_TOLERANCE = 0.98
"""Estimates are this close; a model is refused only when it would not fit even then."""

BYTES = {"float32": 4.0, "float": 4.0, "float16": 2.0, "half": 2.0, "bfloat16": 2.0}
KV_BYTES = {"fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "fp8_inc": 1.0, **BYTES}
QUANTIZED_BYTES = {"fp8": 1.0, "fp8_per_tensor": 1.0, "fp8_per_block": 1.0, "bitsandbytes": 0.5}
"""Of a weight, for quantizations that vLLM makes while it loads."""

QKV_BIAS = frozenset({"qwen2", "qwen2_moe"})
HEAD_NORMS = frozenset({"qwen3", "qwen3_moe", "gemma3_text"})
"""A norm on each head of the queries and the keys."""
FOUR_NORMS = frozenset({"gemma2", "gemma3_text"})
EXPERTS = frozenset({"mixtral", "qwen2_moe", "qwen3_moe"})
KNOWN = frozenset({"llama", "mistral", "phi3", "gemma", *QKV_BIAS, *HEAD_NORMS, *FOUR_NORMS, *EXPERTS})
"""model_type of those whose parameters and KV cache are counted."""

TIED = frozenset({"gemma", "gemma2", "gemma3_text"})
"""Whose output layer is the embedding, when the config does not say."""


@dataclass(frozen=True)
class MemoryNeed:
    """What is asked for."""

    model: str
    config: Config
    weight_file_bytes: int = 0
    """Of the files of weights; 0 where not known."""
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    """None: what the config allows."""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    gpu_memory_utilization: float = 0.92
    max_num_batched_tokens: int = 8192
    """vLLM's default on large GPUs (0.32, 0.33); matters to sliding windows only."""
    block_size: int = 16


def text_config(config: Config) -> Config:
    """The part of a config that describes the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def parameters(config: Config) -> int | None:
    """How many numbers the model has; None where its architecture is not known."""
    config = text_config(config)
    kind = config.get("model_type")
    if kind not in KNOWN:
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
    """Heads of queries, heads of keys, size of one."""
    heads = int(config["num_attention_heads"])
    return (
        heads,
        int(config.get("num_key_value_heads") or heads),
        int(config.get("head_dim") or config["hidden_size"] // heads),
    )


def weight_bytes(need: MemoryNeed) -> int | None:
    """Of all weights, over all GPUs; None where nothing is known."""
    inner = text_config(need.config)
    stored = str(need.config.get("dtype") or need.config.get("torch_dtype") or inner.get("dtype") or "float16")
    wanted = stored if need.dtype == "auto" else need.dtype
    if wanted == "float32" and need.dtype == "auto":
        wanted = "bfloat16"  # as vLLM does
    if need.config.get("quantization_config"):
        return need.weight_file_bytes or None
    size = BYTES.get(wanted, 2.0)
    if need.weight_file_bytes:
        in_memory = need.weight_file_bytes * size / BYTES.get(stored, size)
    elif (count := parameters(need.config)) is not None:
        in_memory = count * size
    else:
        return None
    return int(in_memory * QUANTIZED_BYTES.get(need.quantization or "", size) / size)


def longest(config: Config) -> int | None:
    """The tokens that the config allows for one request."""
    config = text_config(config)
    length = config.get("max_position_embeddings")
    return int(length) if length else None


def kv_bytes(need: MemoryNeed, tokens: int) -> int:
    """Of the KV cache of one request of `tokens`, on one GPU; 0 where the architecture is not known."""
    config = text_config(need.config)
    if config.get("model_type") not in KNOWN:
        return 0
    _, kv_heads, head = _heads(config)
    stored = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    size = KV_BYTES.get(need.kv_cache_dtype, 2.0 if stored == "float32" else BYTES.get(stored, 2.0))
    per_token = 2 * max(1, ceil(kv_heads / need.tensor_parallel)) * head * size
    window = _window(config)
    total = 0.0
    for layer in range(config["num_hidden_layers"]):
        kept = ceil(tokens / need.block_size)
        if window and _slides(config, layer):
            most = min(window - 1 + need.max_num_batched_tokens, tokens)
            kept = min(kept, ceil(most / need.block_size) + 1)
        total += kept * need.block_size * per_token
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
    """Why the model cannot fit `gpus` (bytes of each), with what would; None where it may."""
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
    """Whether weights and one request of `tokens` fit GPUs of `gpu` bytes."""
    weights = weight_bytes(need) or 0
    share = weights / (need.tensor_parallel * need.pipeline_parallel)
    return share + kv_bytes(need, tokens) <= gpu * need.gpu_memory_utilization


def longest_that_fits(need: MemoryNeed, gpu: int, limit: int) -> int:
    """Tokens, in steps of 256; 0 where not even these fit."""
    low, high = 0, limit // 256
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(need, gpu, middle * 256) else (low, middle - 1)
    return low * 256


def _advice(need: MemoryNeed, gpus: Sequence[int], tokens: int) -> str:
    """Each change that would do by itself."""
    ways = []
    gpu = min(gpus)
    heads = int(text_config(need.config).get("num_attention_heads") or 0)  # 0: not known, any count may do
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


def need_of(model: str, config: Config, weight_file_bytes: int, given: argparse.Namespace) -> MemoryNeed | None:
    """What is asked for by vLLM's parsed arguments; None where they make it something else than the config says."""
    if given.hf_overrides or getattr(given, "cpu_offload_gb", 0) or given.load_format == "dummy":
        return None
    length = given.max_model_len
    return MemoryNeed(
        model=model,
        config=config,
        weight_file_bytes=weight_file_bytes,
        dtype=str(given.dtype),
        quantization=given.quantization,
        kv_cache_dtype=str(given.kv_cache_dtype),
        max_model_len=256 if length == -1 else length,  # -1: vLLM takes the longest that fits
        tensor_parallel=given.tensor_parallel_size,
        pipeline_parallel=given.pipeline_parallel_size,
        gpu_memory_utilization=given.gpu_memory_utilization,
        max_num_batched_tokens=given.max_num_batched_tokens or MemoryNeed.max_num_batched_tokens,
    )


def check(need: MemoryNeed | None, gpus: Sequence[int]) -> None:
    """Raises StartError for what cannot fit. A config that lacks what is counted here is left to vLLM to judge."""
    try:
        failure = assess_fit(need, gpus) if need is not None else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        log.warning("Whether the model fits was not estimated: %r in its config.json", error)
        return
    if failure:
        raise StartError(failure)
