"""The server's own settings."""

from pathlib import Path

import pytest

from forebay_server.failure import StartError
from forebay_server.settings import DEFAULTS, DESCRIPTIONS, Settings, cache_environment


def test_defaults_are_the_pods_paths() -> None:
    assert Settings.from_environment({"FOREBAY_AUTH": "APIKey"}) == Settings(
        endpoint="",
        auth="APIKey",
        keys_dir=Path("/run/forebay/keys"),
        drain_seconds=300.0,
        termination_log=Path("/dev/termination-log"),
        base_path=Path("/cache"),
    )


def test_every_variable_is_described() -> None:
    assert DEFAULTS.keys() == DESCRIPTIONS.keys() - {"FOREBAY_AUTH"}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "FOREBAY_AUTH is ''; it must be APIKey or None."),
        ({"FOREBAY_AUTH": "none"}, "FOREBAY_AUTH is 'none'"),
        ({"FOREBAY_AUTH": "None", "FOREBAY_DRAIN_SECONDS": "5m"}, "FOREBAY_DRAIN_SECONDS is '5m'"),
        ({"FOREBAY_AUTH": "None", "FOREBAY_DRAIN_SECONDS": "-1"}, "FOREBAY_DRAIN_SECONDS is '-1'"),
        ({"FOREBAY_AUTH": "None", "FOREBAY_DRAIN_SECONDS": "nan"}, "FOREBAY_DRAIN_SECONDS is 'nan'"),
    ],
)
def test_a_wrong_setting_stops_the_start(env: dict[str, str], message: str) -> None:
    with pytest.raises(StartError) as error:
        Settings.from_environment(env)
    assert error.value.failure.message.startswith(message)
    assert error.value.failure.exit_status == 78


def test_every_cache_is_under_the_base_path() -> None:
    variables = cache_environment(Path("/runpod-volume"))
    assert variables["HF_HOME"] == "/runpod-volume/huggingface-cache/hub"
    assert all(path.startswith("/runpod-volume/") for path in variables.values())
