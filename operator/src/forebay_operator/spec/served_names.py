"""Reads the names that clients may write as `model` from variables, as the server reads them. Pure."""

import shlex

from forebay_operator.json_text import parse_json


def read_served_names(text: str) -> tuple[str, ...]:
    """The names in a list, as the server reads it (env_to_flags.list_items): a JSON array, or words with commas or
    blanks between them. A word with a blank is in quotes. A text that the server rejects has no names."""
    try:
        if text.startswith("["):
            return tuple(name for name in parse_json(text) if isinstance(name, str))
        return tuple(shlex.split(text.replace(",", " ")))
    except ValueError:
        return ()


def read_adapter_names(text: str) -> tuple[str, ...]:
    """The names in LORA_MODULES. Its forms are a JSON array of objects, one object, and words NAME=PATH."""
    try:
        modules = parse_json(text) if text.startswith(("[", "{")) else []
    except ValueError:
        return ()
    if isinstance(modules, dict):
        modules = [modules]
    named = [module.get("name") for module in modules if isinstance(module, dict)]
    words = (
        [word.partition("=")[0] for word in read_served_names(text) if "=" in word] if not text.startswith("{") else []
    )
    return tuple(name for name in [*named, *words] if isinstance(name, str) and name)
