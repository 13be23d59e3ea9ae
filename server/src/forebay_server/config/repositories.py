"""Finds the repositories of the Hugging Face hub that an endpoint's variables name.

The command line passes them to the settings, which choose the cache folder that has them.
"""

from collections.abc import Mapping

from forebay_protocol.env_lists import read_lora_modules

LONGEST = 200
"""The most characters of ORG/NAME. The hub allows 96 for each, and a folder's name can have 255."""


def repositories(env: Mapping[str, str]) -> list[str]:
    """ORG/NAME of the model, its tokenizer, its draft model and its adapters, in this order.

    Values of another form, such as a path, may be among them. vLLM itself reports invalid ones.
    """
    named = [env.get(name, "").strip() for name in ("MODEL_NAME", "TOKENIZER_NAME", "SPECULATIVE_MODEL")]
    adapters = [module.path for module in read_lora_modules(env.get("LORA_MODULES", ""))]
    return [name for name in (*named, *adapters) if 0 < len(name) <= LONGEST]
