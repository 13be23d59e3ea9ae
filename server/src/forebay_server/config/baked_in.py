"""Reads the file of a model in the image, as RunPod's worker does: JSON with variables that override others.

The command line reads it before all other configuration.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from forebay_server.failure import StartError, invalid_configuration

FILE = Path("/local_model_args.json")

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""The weights are in the image, so no request goes to the hub."""


def variables(file: Path) -> dict[str, str]:
    """Read the variables of the file, such as MODEL_NAME, and add those of OFFLINE. Returns {} if there is no file.

    Raises StartError (InvalidConfiguration) for a file that is no JSON object or names no model.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _wrong(file, f"cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise _wrong(file, "is not a JSON object")
    given = {name: value for name, value in content.items() if value not in (None, "")}
    baked = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    if "MODEL_NAME" not in baked:
        raise _wrong(file, "has no MODEL_NAME")
    return baked | OFFLINE


def replaced(env: Mapping[str, str], baked: Mapping[str, str]) -> list[str]:
    """One sentence for each variable of `env` that the image overrides."""
    return [
        f"{name}={env[name]!r} is ignored: {FILE} of the image sets {value!r}."
        for name, value in baked.items()
        if env.get(name) and env[name] != value and name not in OFFLINE
    ]


def _wrong(file: Path, what: str) -> StartError:
    return invalid_configuration(f"{file}, the file of a baked-in model, {what}.", "Build the image again.")
