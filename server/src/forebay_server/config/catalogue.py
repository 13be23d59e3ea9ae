"""A list of all environment variables that the server knows, for the documentation and for the operator.

`forebay-server flags` prints it, and `make names` writes the names into the operator.
"""

from collections.abc import Iterable, Mapping

from forebay_protocol.refused_flags import REFUSED_FLAGS
from forebay_server.config import settings, speculative, variable_names
from forebay_server.config.env_to_flags import settable
from forebay_server.config.vllm_flags import Flag, FlagKind

FlagEntry = dict[str, object]


def catalogue(flags: Mapping[str, Flag], vllm_variables: Iterable[str]) -> list[FlagEntry]:
    """One entry for each name, sorted by name: {"name", "status", …}.

    status: "flag" and "alias" (with "sets", "type", "list", "default", "choices", "expected"), "forebay" and "library"
    (with "meaning"), "vllm" (a variable of vLLM that is no flag), "removed" (with "instead"), "reserved" (with
    "remedy") and "refused" (with "why").
    """
    entries: dict[str, FlagEntry] = {}

    def add(name: str, status: str, **more: object) -> None:
        entries.setdefault(name, {"name": name, "status": status, **more})

    for name, remedy in variable_names.RESERVED.items():
        add(name, "reserved", remedy=remedy)
    for name, why in {**REFUSED_FLAGS, **variable_names.REFUSED_ENVIRONMENT}.items():
        add(name, "refused", why=why)
    for name, flag in settable(flags).items():
        add(name, "flag", **_flag(flag))
    for alias, target in variable_names.ALIASES.items():
        if target in flags:  # another version of vLLM may lack it
            add(alias, "alias", **_flag(flags[target]))
    for name, (key, _) in speculative.CONFIG_FIELDS.items():
        add(name, "forebay", meaning=f"{key} of {speculative.CONFIG}", default=None)
    for name, meaning in settings.DESCRIPTIONS.items():
        add(name, "forebay", meaning=meaning, default=settings.DEFAULTS.get(name))
    for name, meaning in variable_names.LIBRARIES.items():
        add(name, "library", meaning=meaning)
    add(variable_names.CONFIG_FILE, "forebay", meaning="path of a YAML file with vLLM's flags", default=None)
    add(variable_names.EXTRA_ARGUMENTS, "forebay", meaning="more arguments of vLLM, which override all", default=None)
    add(variable_names.ENDPOINT_ARGUMENTS, "forebay", meaning="spec.args, which overrides all variables", default=None)
    for name in vllm_variables:
        add(name, "vllm")
    for name, instead in variable_names.REMOVED.items():
        add(name, "removed", instead=instead)
    return [entries[name] for name in sorted(entries)]


def find_recognized(names: Iterable[str], entries: Iterable[FlagEntry]) -> dict[str, str]:
    """Return those of the names that are in the catalogue, with their status."""
    statuses = {str(entry["name"]): str(entry["status"]) for entry in entries}
    return {name: statuses[name] for name in names if name in statuses}


def _flag(flag: Flag) -> FlagEntry:
    return {
        "sets": flag.option,
        "type": flag.type,
        "list": flag.kind in (FlagKind.LIST, FlagKind.REPEATED),
        "default": flag.default,
        "choices": list(flag.choices),
        "expected": flag.expected,
    }
