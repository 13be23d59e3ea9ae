"""Reads the environment variables that hold a list: values of a flag, names of the model, or LoRA adapters.

The server passes the items to vLLM, and the operator lists the names in the endpoint's status.
"""

import json
import re
import shlex
from dataclasses import dataclass

SERVED_NAME_OVERRIDE = "OPENAI_SERVED_MODEL_NAME_OVERRIDE"
"""RunPod's variable for one name of the model.

Both generations of RunPod's worker take the whole value as one name, with its blanks and commas: src/engine.py until
2026-07, and src/args_builder.py since then (github.com/runpod-workers/worker-vllm).
"""

SERVED_NAME_VARIABLES = (SERVED_NAME_OVERRIDE, "SERVED_MODEL_NAME")
"""Variables that name the model for clients. The first one that is set wins."""

_EMPTY = re.compile(r"\[\s*\]")


@dataclass(frozen=True)
class LoraModule:
    """A LoRA adapter in LORA_MODULES. A field that is absent or no text is ""."""

    name: str
    path: str


def is_empty_list(value: str) -> bool:
    """Whether a value is an empty JSON array, as RunPod's templates have it for an unset list."""
    return _EMPTY.fullmatch(value.strip()) is not None


def read_list_items(value: str, variable: str = "") -> list[str]:
    """The items of a list: a JSON array, one JSON object, or words with commas or blanks between them.

    A word with a blank is in quotes. An item of a JSON array that is no text becomes JSON. SERVED_NAME_OVERRIDE as the
    `variable` has one item.

    Raises ValueError for a JSON array that does not parse, and for a quote without its end.
    """
    text = value.strip()
    if variable == SERVED_NAME_OVERRIDE:
        return [text] if text else []
    if text.startswith("["):
        try:
            return [item if isinstance(item, str) else json.dumps(item) for item in json.loads(text)]
        except RecursionError:
            raise ValueError("expected a JSON list: it is nested too deep") from None
        except ValueError as error:
            raise ValueError(f"expected a JSON list: {error}") from error
    if text.startswith("{"):
        return [text]
    return shlex.split(text.replace(",", " "))


def read_lora_modules(value: str) -> list[LoraModule]:
    """The adapters in LORA_MODULES: a list of NAME=PATH or {"name", "path"}.

    An item with "=" and without "," is NAME=PATH, as in vLLM's LoRAParserAction. Items that vLLM cannot parse are
    omitted.
    """
    try:
        items = read_list_items(value)
    except ValueError:
        return []
    return [module for module in map(read_lora_module, items) if module]


def read_lora_module(item: str) -> LoraModule | None:
    """Read the adapter in one item of LORA_MODULES or of --lora-modules. Returns None if vLLM cannot parse the item."""
    if "=" in item and "," not in item:
        name, _, path = item.partition("=")
        return LoraModule(name, path)
    try:
        fields = json.loads(item)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    name, path = (each if isinstance(each := fields.get(key), str) else "" for key in ("name", "path"))
    return LoraModule(name, path)
