"""The file of a model that is baked into the image."""

from pathlib import Path

import pytest

from forebay_server.config.baked_in import replaced, variables
from forebay_server.failure import StartError


def test_the_file_sets_variables_and_switches_to_offline_mode(tmp_path: Path) -> None:
    file = tmp_path / "local_model_args.json"
    file.write_text('{"MODEL_NAME": "/models/a", "TOKENIZER_NAME": "/models/a", "QUANTIZATION": null}')
    assert variables(file) == {
        "MODEL_NAME": "/models/a",
        "TOKENIZER_NAME": "/models/a",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def test_values_that_are_not_text_become_json(tmp_path: Path) -> None:
    file = tmp_path / "local_model_args.json"
    file.write_text(
        '{"MODEL_NAME": "/models/a", "HF_OVERRIDES": {"a": [1]}, "ENFORCE_EAGER": true, "MAX_MODEL_LEN": 8}'
    )
    found = variables(file)
    assert (found["HF_OVERRIDES"], found["ENFORCE_EAGER"], found["MAX_MODEL_LEN"]) == ('{"a": [1]}', "true", "8")


def test_a_missing_file_sets_nothing(tmp_path: Path) -> None:
    assert variables(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ("[]", "is not a JSON object"), ('{"MODEL_NAME": ""}', "has no MODEL_NAME")],
)
def test_an_invalid_file_stops_the_start(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "local_model_args.json"
    file.write_text(content)
    with pytest.raises(StartError, match=message):
        variables(file)


def test_a_replaced_value_is_reported() -> None:
    env = {"MODEL_NAME": "a/b", "TOKENIZER_NAME": "t", "HF_HUB_OFFLINE": "0"}
    baked = {"MODEL_NAME": "/models/a", "TOKENIZER_NAME": "t", "HF_HUB_OFFLINE": "1"}
    assert replaced(env, baked) == [
        "MODEL_NAME='a/b' is ignored: /local_model_args.json of the image sets '/models/a'."
    ]
