"""The server's own settings, which are not flags of vLLM.

The command line parses them once. The app and the jobs read them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from forebay_protocol import pod
from forebay_server.config import parser_choice
from forebay_server.config.env_to_flags import FALSE, TRUE
from forebay_server.config.vllm_flags import EXPECTED
from forebay_server.failure import StartError, invalid_configuration
from forebay_server.lifecycle.liveness import Patience
from forebay_server.lifecycle.model_files import repository_folder
from forebay_server.serving.limits import BodyLimits

HTTP_PORT, OPS_PORT = pod.API_PORT, pod.OPS_PORT

AuthMode = Literal["APIKey", "None"]

DESCRIPTIONS = {
    "FOREBAY_ENDPOINT": "the endpoint's name",
    "FOREBAY_AUTH": "APIKey: callers need a key of FOREBAY_KEYS_DIR; None: anyone may call. There is no default",
    "FOREBAY_KEYS_DIR": "the mounted Secret: each file's content is one valid key",
    "FOREBAY_CONTROL_DIR": "the mounted Secret with the token of engine control; empty or missing: control is off",
    "FOREBAY_DRAIN_SECONDS": "how long running requests may continue after SIGTERM",
    "FOREBAY_MAX_IN_FLIGHT": "OpenAI requests that are answered at once; further ones get 429",
    "FOREBAY_MAX_BODY_BYTES": "the largest body of a request; a larger one gets 413",
    "FOREBAY_BODY_SECONDS": "time in which a request's body must arrive; a slower one gets 408",
    "FOREBAY_TERMINATION_LOG": "file for a fatal start error, as one line of JSON",
    "BASE_PATH": "the cache volume, for downloaded models and compiled code",
    "FOREBAY_ENGINE_STUCK_SECONDS": "requests run and the engine finishes no step for this time: restarted",
    "FOREBAY_ENGINE_PROBE_SECONDS": "an engine that was idle for this time is probed for one token; 0: never",
    "VLLM_STARTUP_TIMEOUT": "seconds in which the model must answer, or the server ends; no limit when unset",
    "AUTO_TOOL_CALL_PARSER": "1: a known model family gets its tool parser automatically; 0: only by TOOL_CALL_PARSER",
    "STRICT_MAX_TOKENS": "1: a max_tokens above the context is rejected, as in vLLM; 0: it is an upper bound",
    "REQUEST_TIMEOUT": "seconds that a job may take",
    "MAX_CONCURRENCY": "jobs that run at once; OpenAI requests are not counted",
    "RAW_OPENAI_OUTPUT": "how a streamed OpenAI job is answered: 1: text as it was sent; 0: the parsed chunks",
    "RAW_VLLM_OUTPUT": "1: a job with prompt or messages is answered with vLLM's JSON or events; 0: with tokens",
    "DEFAULT_BATCH_SIZE": "tokens or chunks in one item of a streamed job's output, at most",
    "DEFAULT_MIN_BATCH_SIZE": "tokens or chunks in the first item",
    "DEFAULT_BATCH_SIZE_GROWTH_FACTOR": "how many times more an item has than the one before it",
    "MIN_BATCH_SIZE": "another name of DEFAULT_MIN_BATCH_SIZE",
    "BATCH_SIZE_GROWTH_FACTOR": "another name of DEFAULT_BATCH_SIZE_GROWTH_FACTOR",
}
"""Every variable that Settings reads, with its meaning."""

DEFAULTS = {
    "FOREBAY_ENDPOINT": "",
    "FOREBAY_KEYS_DIR": "/run/forebay/keys",
    "FOREBAY_CONTROL_DIR": "/run/forebay/control",
    "FOREBAY_DRAIN_SECONDS": "300",
    "FOREBAY_MAX_IN_FLIGHT": "2048",
    "FOREBAY_MAX_BODY_BYTES": str(32 << 20),
    "FOREBAY_BODY_SECONDS": "60",
    "FOREBAY_TERMINATION_LOG": "/dev/termination-log",
    "BASE_PATH": "/cache",
    "FOREBAY_ENGINE_STUCK_SECONDS": "120",
    "FOREBAY_ENGINE_PROBE_SECONDS": "60",
    "VLLM_STARTUP_TIMEOUT": "",
    "AUTO_TOOL_CALL_PARSER": "1",
    "STRICT_MAX_TOKENS": "0",
    "REQUEST_TIMEOUT": "3600",
    "MAX_CONCURRENCY": "30",
    "RAW_OPENAI_OUTPUT": "1",
    "RAW_VLLM_OUTPUT": "0",
    "DEFAULT_BATCH_SIZE": "50",
    "DEFAULT_MIN_BATCH_SIZE": "1",
    "DEFAULT_BATCH_SIZE_GROWTH_FACTOR": "3",
}

OTHER_SPELLINGS = {
    "DEFAULT_MIN_BATCH_SIZE": "MIN_BATCH_SIZE",
    "DEFAULT_BATCH_SIZE_GROWTH_FACTOR": "BATCH_SIZE_GROWTH_FACTOR",
}
"""Name in RunPod's documentation -> name that its worker's code read. The first overrides the second."""


@dataclass(frozen=True)
class JobSettings:
    """Settings of RunPod's jobs."""

    max_concurrency: int = 30
    timeout: float = 3600.0
    """Seconds."""
    raw_openai_output: bool = True
    raw_vllm_output: bool = False
    batch_size: int = 50
    min_batch_size: int = 1
    batch_size_growth_factor: float = 3.0

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "JobSettings":
        """Read the settings of jobs. Raises StartError (InvalidConfiguration) for an invalid value."""
        return cls(
            max_concurrency=int(_number(env, "MAX_CONCURRENCY", 1, 100_000, whole=True)),
            timeout=_seconds(env, "REQUEST_TIMEOUT"),
            raw_openai_output=_boolean(env, "RAW_OPENAI_OUTPUT"),
            raw_vllm_output=_boolean(env, "RAW_VLLM_OUTPUT"),
            batch_size=int(_number(env, "DEFAULT_BATCH_SIZE", 1, 1_000_000, whole=True)),
            min_batch_size=int(_number(env, "DEFAULT_MIN_BATCH_SIZE", 1, 1_000_000, whole=True)),
            batch_size_growth_factor=_number(env, "DEFAULT_BATCH_SIZE_GROWTH_FACTOR", 1, 1_000_000),
        )


@dataclass(frozen=True)
class Settings:
    """Settings that are read from the environment once, at the start. DESCRIPTIONS has their meaning."""

    endpoint: str
    auth: AuthMode
    keys_dir: Path
    control_dir: Path
    drain_seconds: float
    termination_log: Path
    base_path: Path
    patience: Patience
    startup_timeout: float | None
    """Seconds."""
    auto_tool_call_parser: bool
    strict_max_tokens: bool
    jobs: JobSettings
    limits: BodyLimits = field(default_factory=BodyLimits)

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "Settings":
        """Read all settings. Raises StartError (InvalidConfiguration) for an invalid value."""
        auth = env.get("FOREBAY_AUTH", "")
        if auth not in ("APIKey", "None"):
            raise invalid_configuration(
                f"FOREBAY_AUTH is {auth!r}; it must be APIKey or None.",
                "Set FOREBAY_AUTH=APIKey and mount the keys, or FOREBAY_AUTH=None to let anyone in.",
            )
        return cls(
            endpoint=_read(env, "FOREBAY_ENDPOINT"),
            auth=cast(AuthMode, auth),
            keys_dir=Path(_read(env, "FOREBAY_KEYS_DIR")),
            control_dir=Path(_read(env, "FOREBAY_CONTROL_DIR")),
            drain_seconds=_seconds(env, "FOREBAY_DRAIN_SECONDS"),
            termination_log=termination_log(env),
            base_path=Path(_read(env, "BASE_PATH")),
            patience=Patience(
                stuck=_number(env, "FOREBAY_ENGINE_STUCK_SECONDS", 1, 86400),
                probe=_seconds(env, "FOREBAY_ENGINE_PROBE_SECONDS"),
            ),
            startup_timeout=_seconds(env, "VLLM_STARTUP_TIMEOUT") if _read(env, "VLLM_STARTUP_TIMEOUT") else None,
            auto_tool_call_parser=_boolean(env, parser_choice.SETTING),
            strict_max_tokens=_boolean(env, "STRICT_MAX_TOKENS"),
            jobs=JobSettings.from_environment(env),
            limits=BodyLimits(
                in_flight=int(_number(env, "FOREBAY_MAX_IN_FLIGHT", 1, 1_000_000, whole=True)),
                body_bytes=int(_number(env, "FOREBAY_MAX_BODY_BYTES", 1024, 1 << 32, whole=True)),
                body_seconds=_seconds(env, "FOREBAY_BODY_SECONDS"),
            ),
        )


VLLM_DEFAULTS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_MAX_N_SEQUENCES": "128",
    "VLLM_MAX_STOP_STRINGS": "64",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "120",
}
"""Defaults of vLLM's variables for a server with clients of all kinds. The user may set other values.

vLLM sends no usage statistics. The URL of an image cannot redirect to a host that ALLOWED_MEDIA_DOMAINS does not allow.
A request has at most 128 answers (`n`; OpenAI's own limit), where vLLM allows 16,384. It has at most 64 stop strings:
agents and evaluation harnesses send more than OpenAI's 4.

Idle connections stay open longer than proxies and clients keep them: 60 s for an AWS load balancer, 75 s for nginx,
90 s for Go's HTTP client. If the server closed first, it would reset requests that arrive at that moment."""


def termination_log(env: Mapping[str, str]) -> Path:
    """The file for a fatal start error. It does not depend on the other settings, which may be invalid."""
    return Path(_read(env, "FOREBAY_TERMINATION_LOG"))


def cache_environment(base_path: Path, env: Mapping[str, str], *repositories: str) -> dict[str, str]:
    """Variables that move all caches of the libraries to the cache volume, as the root file system is read-only.

    HF_HOME and the hub's cache are one folder, as in RunPod's workers, so that their volumes can be used. Earlier
    releases of Forebay had the hub's cache in its subfolder `hub`. That subfolder stays the cache in one case: of the
    `repositories` that are in only one of the two folders, the first is in the subfolder. Variables in `env` keep the
    user's values.
    """
    home = base_path / "huggingface-cache" / "hub"
    variables = {
        "HF_HOME": str(home),
        "VLLM_CACHE_ROOT": str(base_path / "vllm"),
        "TRITON_CACHE_DIR": str(base_path / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(base_path / "torchinductor"),
        "XDG_CACHE_HOME": str(base_path / "xdg"),
        "XDG_CONFIG_HOME": str(base_path / "xdg-config"),
    }
    if env.get("HUGGINGFACE_HUB_CACHE"):  # its older name
        return variables | {"HF_HUB_CACHE": env["HUGGINGFACE_HUB_CACHE"]}
    if env.get("HF_HOME"):
        return variables
    for repository in repositories:
        caches = [cache for cache in (home, home / "hub") if repository_folder(cache, repository).is_dir()]
        if len(caches) == 1:
            return variables | {"HF_HUB_CACHE": str(caches[0])}
    return variables | {"HF_HUB_CACHE": str(home)}


def _read(env: Mapping[str, str], name: str) -> str:
    """The value without blanks around it, or the default. A value with only blanks means "unset", as with the flags of
    vLLM."""
    given = (env.get(each, "").strip() for each in (name, OTHER_SPELLINGS.get(name, name)))
    return next(filter(None, given), DEFAULTS[name])


def _boolean(env: Mapping[str, str], name: str) -> bool:
    raw = _read(env, name)
    if raw.lower() in TRUE:
        return True
    if raw.lower() in FALSE:
        return False
    raise _wrong(name, raw, EXPECTED["bool"])


def _seconds(env: Mapping[str, str], name: str) -> float:
    return _number(env, name, 0, 86400, unit="seconds")


def _number(
    env: Mapping[str, str], name: str, minimum: int, maximum: int, *, whole: bool = False, unit: str = "a number"
) -> float:
    raw = _read(env, name)
    try:
        number = float(raw)
    except ValueError:
        number = math.nan
    if not minimum <= number <= maximum or (whole and number != int(number)):
        raise _wrong(name, raw, f"{'a whole number' if whole else unit} from {minimum} to {maximum}")
    return number


def _wrong(name: str, raw: str, expected: str) -> StartError:
    return invalid_configuration(f"{name} is {raw!r}; it must be {expected}.", f"Correct {name}.")
