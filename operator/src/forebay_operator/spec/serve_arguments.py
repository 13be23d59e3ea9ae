"""Reads spec.args: flags of `vllm serve`, in the forms that recipes use. Pure; the spec and its checks call it."""

import re
import shlex
from collections.abc import Iterable, Sequence

from forebay_protocol.env_lists import read_lora_module

_FLAG = re.compile(r"\s*(?P<option>--?[A-Za-z][\w.-]*)(?:\s+(?P<rest>.*))?", re.DOTALL)
"""An item that begins with a flag and a blank. An item --flag=VALUE stays as it is."""

_LITERAL = ("{", "[")
"""The first characters of JSON and of a chat template. Their quotation marks are part of the value."""


def split_arguments(items: Iterable[str]) -> tuple[str, ...]:
    """Split the items of spec.args into the words that a shell would pass to `vllm serve`.

    An item --flag VALUE becomes two words, and an item with several flags becomes more. Quotation marks around a value
    are removed, like in a shell. Every other item is one word: --flag, --flag=VALUE, or the value of the flag before
    it.

    Raises:
        ValueError: a quotation mark is not closed. The message names the item.
    """
    return tuple(word for item in items for word in _split_item(item))


def split_command_line(text: str) -> tuple[str, ...]:
    """Split a text such as VLLM_EXTRA_ARGS into arguments. Returns () if the server would reject the text."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return ()


def find_flags(words: Iterable[str]) -> list[str]:
    """The flags among the words, in UPPER_CASE as the variables of the server: API_KEY for --api-key=k."""
    return [_variable_name(word) for word in words if word.startswith("--")]


def find_values(words: Sequence[str], flag: str) -> tuple[str, ...]:
    """The values of the last use of a flag; empty without the flag. `flag` is in UPPER_CASE."""
    values: list[str] = []
    follows = False
    for word in words:
        if word.startswith("--") and _variable_name(word) == flag:
            _, equals, value = word.partition("=")
            values, follows = [value] if equals else [], not equals
        elif word.startswith("-"):
            follows = False
        elif follows:
            values.append(word)
    return tuple(values)


def find_adapters(words: Sequence[str]) -> tuple[str, ...]:
    """The names of the adapters in --lora-modules: words NAME=PATH, or JSON objects with a name."""
    modules = map(read_lora_module, find_values(words, "LORA_MODULES"))
    return tuple(module.name for module in modules if module and module.name)


def _split_item(item: str) -> list[str]:
    match = _FLAG.fullmatch(item)
    if not match:
        return [item]
    rest = (match["rest"] or "").replace("\\\n", " ").strip()
    if rest.startswith(_LITERAL):
        return [match["option"], rest]
    try:
        return [match["option"], *shlex.split(rest)]
    except ValueError as error:
        raise ValueError(f"{item!r}: {str(error).rstrip('.').lower()}") from error


def _variable_name(word: str) -> str:
    option = word.partition("=")[0].partition(".")[0]
    return option.removeprefix("--").replace("-", "_").upper()
