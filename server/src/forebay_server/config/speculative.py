"""Composes vLLM's SPECULATIVE_CONFIG from RunPod's variables for its parts.

The conversion of variables to flags calls it.
"""

import json
from collections.abc import Mapping

CONFIG = "SPECULATIVE_CONFIG"

CONFIG_FIELDS: dict[str, tuple[str, type[str] | type[int]]] = {
    "SPECULATIVE_METHOD": ("method", str),
    "SPECULATIVE_MODEL": ("model", str),
    "NUM_SPECULATIVE_TOKENS": ("num_speculative_tokens", int),
    "NGRAM_PROMPT_LOOKUP_MAX": ("prompt_lookup_max", int),
    "NGRAM_PROMPT_LOOKUP_MIN": ("prompt_lookup_min", int),
    "SPECULATIVE_DRAFT_TENSOR_PARALLEL_SIZE": ("draft_tensor_parallel_size", int),
    "SPECULATIVE_MAX_MODEL_LEN": ("max_model_len", int),
}
"""Variable -> the key of SPECULATIVE_CONFIG that it sets. The worker's first generation has the last two."""

NGRAM_MODEL = "[ngram]"
"""The model of the n-gram method in earlier versions of vLLM."""


def parts_set(env: Mapping[str, str]) -> dict[str, str]:
    """The parts that are set. 0 means unset, as in the worker's templates."""
    return {name: value for name in CONFIG_FIELDS if (value := env.get(name, "").strip()) not in ("", "0", "None")}


def compose(parts: Mapping[str, str]) -> str:
    """Compose SPECULATIVE_CONFIG from at least one part. Raises ValueError with the error."""
    config: dict[str, object] = {}
    for name, value in parts.items():
        key, kind = CONFIG_FIELDS[name]
        if kind is int and not (value.isascii() and value.isdigit()):
            raise ValueError(f"{name}={value!r}: expected a whole number from 1.")
        config[key] = kind(value)
    if config.get("model") == NGRAM_MODEL:
        del config["model"]
        config.setdefault("method", "ngram")
    if "prompt_lookup_max" in config and "model" not in config:
        config.setdefault("method", "ngram")
    if "method" not in config and "model" not in config:
        given = " and ".join(parts)
        raise ValueError(f"{given} alone is not enough: set SPECULATIVE_METHOD, or SPECULATIVE_MODEL, too.")
    if config.get("method") == "ngram" and "num_speculative_tokens" not in config:
        raise ValueError("NUM_SPECULATIVE_TOKENS is not set: the method ngram needs it.")
    return json.dumps(config)
