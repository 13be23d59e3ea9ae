"""Finds the repositories of the Hugging Face hub that an endpoint's variables name.

The command line passes them to the settings, which choose the cache folder that has them.
"""

import json
from collections.abc import Iterator, Mapping

from forebay_server.config.env_to_flags import list_items

LONGEST = 200
"""The most characters of ORG/NAME. The hub allows 96 for each, and a folder's name can have 255."""


def repositories(env: Mapping[str, str]) -> list[str]:
    """ORG/NAME of the model, its tokenizer, its draft model and its adapters, in this order.

    Values of another form, such as a path, may be among them. vLLM itself reports invalid ones.
    """
    named = [env.get(name, "").strip() for name in ("MODEL_NAME", "TOKENIZER_NAME", "SPECULATIVE_MODEL")]
    return [name for name in (*named, *_adapters(env.get("LORA_MODULES", ""))) if 0 < len(name) <= LONGEST]


def _adapters(modules: str) -> Iterator[str]:
    """The paths in a list of NAME=PATH or {"name", "path"}, as LORA_MODULES has them."""
    try:
        items = list_items(modules)
    except ValueError:
        return
    for item in items:
        if not item.startswith("{"):
            yield item.partition("=")[2]
            continue
        try:
            path = json.loads(item).get("path")
        except ValueError:
            continue
        if isinstance(path, str):
            yield path
