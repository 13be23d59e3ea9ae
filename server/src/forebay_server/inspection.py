"""Renders the output of `forebay-server check` and `forebay-server flags`, which start nothing.

The command line calls it.
"""

import json
import shlex

from forebay_server.config.catalogue import FlagEntry
from forebay_server.failure import Failure
from forebay_server.launch import Launch


def checked(plan: Launch, *, as_json: bool) -> str:
    """Render the result of the environment: vLLM's command, ignored variables, names that may be misspelt."""
    if as_json:
        content = {
            "model": plan.model,
            "arguments": plan.arguments,
            "variables": plan.variables,
            "ignored": plan.ignored,
            "warnings": plan.warnings,
            "notes": plan.notes,
        }
        return json.dumps(content, indent=1)
    variables = [f"{name}={shlex.quote(value)} \\" for name, value in sorted(plan.variables.items())]
    notes = [f"ignored: {text}" for text in plan.ignored] + [f"warning: {text}" for text in plan.warnings]
    notes += [f"note: {text}" for text in plan.notes]
    return "\n".join([*notes, *variables, f"vllm serve {shlex.join(plan.arguments)}"])


def refused(failure: Failure, *, as_json: bool) -> str:
    """Render why the server would not start, as JSON in the form of the termination log."""
    return failure.line() if as_json else f"error: {failure.message} {failure.remedy}"


def listed(entries: list[FlagEntry], *, as_json: bool) -> str:
    """Render every variable that can be set."""
    if as_json:
        return json.dumps(entries, indent=1)
    return "\n".join(f"{entry['name']:45} {entry['status']:9} {_about(entry)}".rstrip() for entry in entries)


def _about(entry: FlagEntry) -> str:
    if "sets" in entry:
        default = "" if entry["default"] is None else f", default {entry['default']}"
        return f"{entry['sets']} ({entry['expected']}{default})"
    if entry["status"] == "removed":
        return f"now {entry['instead']}" if entry["instead"] else "nothing takes its place"
    return str(entry.get("meaning") or entry.get("why") or entry.get("remedy") or "")
