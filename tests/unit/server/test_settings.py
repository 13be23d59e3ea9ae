"""The server's own settings."""

from pathlib import Path

import pytest

from forebay_server.config.repositories import repositories
from forebay_server.config.settings import (
    DEFAULTS,
    DESCRIPTIONS,
    OTHER_SPELLINGS,
    JobSettings,
    Settings,
    cache_environment,
)
from forebay_server.failure import StartError
from forebay_server.lifecycle.liveness import Patience


def test_defaults_are_the_pods_paths() -> None:
    assert Settings.from_environment({"FOREBAY_AUTH": "APIKey"}) == Settings(
        endpoint="",
        auth="APIKey",
        keys_dir=Path("/run/forebay/keys"),
        control_dir=Path("/run/forebay/control"),
        drain_seconds=300.0,
        termination_log=Path("/dev/termination-log"),
        base_path=Path("/cache"),
        patience=Patience(stuck=120.0, probe=60.0),
        startup_timeout=None,
        auto_tool_call_parser=True,
        strict_max_tokens=False,
        jobs=JobSettings(
            max_concurrency=30,
            timeout=3600.0,
            raw_openai_output=True,
            batch_size=50,
            min_batch_size=1,
            batch_size_growth_factor=3.0,
        ),
    )


def test_every_variable_is_described() -> None:
    assert DEFAULTS.keys() == DESCRIPTIONS.keys() - {"FOREBAY_AUTH", *OTHER_SPELLINGS.values()}


@pytest.mark.parametrize(
    ("env", "attribute", "value"),
    [
        ({"MAX_CONCURRENCY": "8"}, "max_concurrency", 8),
        ({"REQUEST_TIMEOUT": "60"}, "timeout", 60.0),
        ({"RAW_OPENAI_OUTPUT": "0"}, "raw_openai_output", False),
        ({"RAW_OPENAI_OUTPUT": "True"}, "raw_openai_output", True),
        ({}, "raw_vllm_output", False),
        ({"RAW_VLLM_OUTPUT": "1"}, "raw_vllm_output", True),
        ({"DEFAULT_BATCH_SIZE": "10"}, "batch_size", 10),
        ({"DEFAULT_MIN_BATCH_SIZE": "2"}, "min_batch_size", 2),
        ({"MIN_BATCH_SIZE": "2"}, "min_batch_size", 2),
        ({"MIN_BATCH_SIZE": "2", "DEFAULT_MIN_BATCH_SIZE": "4"}, "min_batch_size", 4),
        ({"DEFAULT_BATCH_SIZE_GROWTH_FACTOR": "1.5"}, "batch_size_growth_factor", 1.5),
        ({"BATCH_SIZE_GROWTH_FACTOR": "2"}, "batch_size_growth_factor", 2.0),
        ({"MAX_CONCURRENCY": ""}, "max_concurrency", 30),
        ({"MAX_CONCURRENCY": " 8\n"}, "max_concurrency", 8),
        ({"MAX_CONCURRENCY": " "}, "max_concurrency", 30),
        ({"REQUEST_TIMEOUT": "\n"}, "timeout", 3600.0),
        ({"RAW_OPENAI_OUTPUT": " "}, "raw_openai_output", True),
        ({"DEFAULT_MIN_BATCH_SIZE": " ", "MIN_BATCH_SIZE": "5"}, "min_batch_size", 5),
    ],
)
def test_both_spellings_of_the_job_settings_are_read(env: dict[str, str], attribute: str, value: object) -> None:
    assert getattr(JobSettings.from_environment(env), attribute) == value


def test_the_start_has_a_time_limit_if_set() -> None:
    settings = Settings.from_environment({"FOREBAY_AUTH": "None", "VLLM_STARTUP_TIMEOUT": "1200"})
    assert settings.startup_timeout == 1200
    assert Settings.from_environment({"FOREBAY_AUTH": "None", "VLLM_STARTUP_TIMEOUT": " "}).startup_timeout is None


def test_blanks_around_a_path_are_removed() -> None:
    for given, path in ((" ", "/cache"), ("/runpod-volume\n", "/runpod-volume")):
        assert Settings.from_environment({"FOREBAY_AUTH": "None", "BASE_PATH": given}).base_path == Path(path)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "FOREBAY_AUTH is ''; it must be APIKey or None."),
        ({"FOREBAY_AUTH": "none"}, "FOREBAY_AUTH is 'none'"),
        ({"FOREBAY_AUTH": "None", "FOREBAY_DRAIN_SECONDS": "5m"}, "FOREBAY_DRAIN_SECONDS is '5m'"),
        ({"FOREBAY_AUTH": "None", "FOREBAY_DRAIN_SECONDS": "-1"}, "FOREBAY_DRAIN_SECONDS is '-1'"),
        ({"FOREBAY_AUTH": "None", "FOREBAY_DRAIN_SECONDS": "nan"}, "FOREBAY_DRAIN_SECONDS is 'nan'"),
        ({"FOREBAY_AUTH": "None", "MAX_CONCURRENCY": "0"}, "MAX_CONCURRENCY is '0'; it must be a whole number from 1"),
        ({"FOREBAY_AUTH": "None", "MAX_CONCURRENCY": "1.5"}, "MAX_CONCURRENCY is '1.5'; it must be a whole number"),
        ({"FOREBAY_AUTH": "None", "RAW_OPENAI_OUTPUT": "raw"}, "RAW_OPENAI_OUTPUT is 'raw'; it must be true, 1,"),
        ({"FOREBAY_AUTH": "None", "VLLM_STARTUP_TIMEOUT": "20m"}, "VLLM_STARTUP_TIMEOUT is '20m'; it must be seconds"),
    ],
)
def test_a_wrong_setting_stops_the_start(env: dict[str, str], message: str) -> None:
    with pytest.raises(StartError) as error:
        Settings.from_environment(env)
    assert error.value.failure.message.startswith(message)
    assert error.value.failure.exit_status == 78


def test_every_cache_is_under_the_base_path() -> None:
    variables = cache_environment(Path("/runpod-volume"), {})
    assert variables["HF_HOME"] == variables["HF_HUB_CACHE"] == "/runpod-volume/huggingface-cache/hub"
    assert all(path.startswith("/runpod-volume/") for path in variables.values())


def test_the_users_folder_for_models_is_used() -> None:
    assert "HF_HUB_CACHE" not in cache_environment(Path("/v"), {"HF_HOME": "/mine"})
    assert cache_environment(Path("/v"), {"HUGGINGFACE_HUB_CACHE": "/mine"})["HF_HUB_CACHE"] == "/mine"


@pytest.mark.parametrize(
    ("filled", "used"),
    [
        ((), ""),
        (("models--org--model",), ""),
        (("hub/models--org--model",), "hub"),
        (("models--org--model", "hub/models--org--model"), ""),
        (("hub/models--org--another",), ""),
    ],
)
def test_models_stored_by_runpod_or_an_earlier_release_are_found(
    tmp_path: Path, filled: tuple[str, ...], used: str
) -> None:
    home = tmp_path / "huggingface-cache" / "hub"
    for folder in filled:
        (home / folder).mkdir(parents=True)
    assert cache_environment(tmp_path, {}, "org/model")["HF_HUB_CACHE"] == str(home / used)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, []),
        ({"TOKENIZER_NAME": "org/t", "MODEL_NAME": "org/m"}, ["org/m", "org/t"]),
        ({"SPECULATIVE_MODEL": "org/draft"}, ["org/draft"]),
        ({"MODEL_NAME": "org/m\n"}, ["org/m"]),
        ({"LORA_MODULES": '[{"name": "a", "path": "org/a"}, {"name": "b", "path": "org/b"}]'}, ["org/a", "org/b"]),
        ({"LORA_MODULES": '{"name": "a", "path": "org/a"}'}, ["org/a"]),
        ({"LORA_MODULES": "a=org/a b=/volume/b"}, ["org/a", "/volume/b"]),
        ({"LORA_MODULES": '[{"name": "a", "path": 3}, {"name"'}, []),
        ({"LORA_MODULES": '["{", 3]'}, []),
        ({"LORA_MODULES": '{"name"'}, []),
        ({"LORA_MODULES": f"a=org/{'a' * 300}"}, []),
    ],
)
def test_the_variables_name_the_hub_repositories(variables: dict[str, str], named: list[str]) -> None:
    assert repositories(variables) == named


@pytest.mark.parametrize(
    ("filled", "used"),
    [
        (("models--org--m", "hub/models--org--m", "hub/models--org--a"), "hub"),
        (("models--org--m", "hub/models--org--a"), ""),
        (("hub/models--org--t", "models--org--a"), "hub"),
        (("hub/models--org--a",), "hub"),
    ],
)
def test_adapters_and_tokenizers_of_an_earlier_release_are_found(
    tmp_path: Path, filled: tuple[str, ...], used: str
) -> None:
    home = tmp_path / "huggingface-cache" / "hub"
    for folder in filled:
        (home / folder).mkdir(parents=True)
    names = ("org/m", "org/t", "org/a")
    assert cache_environment(tmp_path, {}, *names)["HF_HUB_CACHE"] == str(home / used)
