"""The server's own settings: what is not a flag of vLLM."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from forebay_server.failure import invalid_configuration

HTTP_PORT = 8000
"""The OpenAI API: what the endpoint's Service exposes."""

OPS_PORT = 8001
"""Probes, startup report and metrics: never exposed by the Service."""

Auth = Literal["APIKey", "None"]

DESCRIPTIONS = {
    "FOREBAY_ENDPOINT": "the endpoint's name",
    "FOREBAY_AUTH": "APIKey: a key of FOREBAY_KEYS_DIR is asked for; None: anyone may call. There is no default",
    "FOREBAY_KEYS_DIR": "the mounted Secret: each file's content is one valid key",
    "FOREBAY_DRAIN_SECONDS": "how long running requests may go on after SIGTERM",
    "FOREBAY_TERMINATION_LOG": "where a fatal start error is written as one line of JSON",
    "BASE_PATH": "the cache volume: downloaded models and compiled code live under it",
}
"""Every variable that Settings reads, with its meaning."""

DEFAULTS = {
    "FOREBAY_ENDPOINT": "",
    "FOREBAY_KEYS_DIR": "/run/forebay/keys",
    "FOREBAY_DRAIN_SECONDS": "300",
    "FOREBAY_TERMINATION_LOG": "/dev/termination-log",
    "BASE_PATH": "/cache",
}


@dataclass(frozen=True)
class Settings:
    """Read from the environment once, at the start. DESCRIPTIONS says what each means."""

    endpoint: str
    auth: Auth
    keys_dir: Path
    drain_seconds: float
    termination_log: Path
    base_path: Path

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "Settings":
        """Raises StartError (InvalidConfiguration) for a value that cannot be."""
        auth = env.get("FOREBAY_AUTH", "")
        if auth not in ("APIKey", "None"):
            raise invalid_configuration(
                f"FOREBAY_AUTH is {auth!r}; it must be APIKey or None.",
                "Set FOREBAY_AUTH=APIKey and mount the keys, or FOREBAY_AUTH=None to let anyone in.",
            )
        return cls(
            endpoint=_read(env, "FOREBAY_ENDPOINT"),
            auth=cast(Auth, auth),
            keys_dir=Path(_read(env, "FOREBAY_KEYS_DIR")),
            drain_seconds=_seconds(env, "FOREBAY_DRAIN_SECONDS"),
            termination_log=termination_log(env),
            base_path=Path(_read(env, "BASE_PATH")),
        )


def termination_log(env: Mapping[str, str]) -> Path:
    """Where a fatal start error goes: known before, and whatever, the other settings are."""
    return Path(_read(env, "FOREBAY_TERMINATION_LOG"))


def cache_environment(base_path: Path) -> dict[str, str]:
    """Variables that send every cache of the libraries to the cache volume; the root file system is read-only.

    The place of HF_HOME is RunPod's, so a volume filled by its workers is found.
    """
    return {
        "HF_HOME": str(base_path / "huggingface-cache" / "hub"),
        "VLLM_CACHE_ROOT": str(base_path / "vllm"),
        "TRITON_CACHE_DIR": str(base_path / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(base_path / "torchinductor"),
        "XDG_CACHE_HOME": str(base_path / "xdg"),
        "XDG_CONFIG_HOME": str(base_path / "xdg-config"),
    }


def _read(env: Mapping[str, str], name: str) -> str:
    return env.get(name) or DEFAULTS[name]


def _seconds(env: Mapping[str, str], name: str) -> float:
    raw = _read(env, name)
    try:
        seconds = float(raw)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise invalid_configuration(f"{name} is {raw!r}; it must be seconds from 0 to 86400.", f"Correct {name}.")
    return seconds
