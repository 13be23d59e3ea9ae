"""The list of all names."""

import argparse

from forebay_server.config.catalogue import catalogue, find_recognized
from forebay_server.config.variable_names import ALIASES
from forebay_server.config.vllm_flags import flags_of


def test_each_variable_is_listed_once_with_its_meaning() -> None:
    parser = argparse.ArgumentParser()
    for target in [*ALIASES.values(), "PORT", "MAX_MODEL_LEN", "TASK", "HF_TOKEN"]:
        parser.add_argument("--" + target.lower().replace("_", "-"))
    entries = catalogue(flags_of(parser), ["VLLM_LOGGING_LEVEL", "VLLM_API_KEY"])
    status = {str(entry["name"]): entry["status"] for entry in entries}
    assert len(status) == len(entries)
    assert list(status) == sorted(status)
    expected = {
        "MODEL_NAME": "alias",
        "MODEL": "reserved",
        "PORT": "reserved",
        "MAX_MODEL_LEN": "flag",
        "TASK": "flag",
        "SWAP_SPACE": "removed",
        "HF_TOKEN": "library",
        "VLLM_LOGGING_LEVEL": "vllm",
        "VLLM_API_KEY": "refused",
        "FOREBAY_AUTH": "forebay",
        "VLLM_EXTRA_ARGS": "forebay",
        "MAX_CONCURRENCY": "forebay",
        "SPECULATIVE_MODEL": "forebay",
    }
    assert {name: status[name] for name in expected} == expected


def test_known_names_of_an_environment_have_their_status_and_others_are_absent() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-model-len")
    entries = catalogue(flags_of(parser), ["VLLM_LOGGING_LEVEL"])
    env = {"MAX_MODEL_LEN": "8", "SWAP_SPACE": "", "PATH": "/bin", "MODEL_NAME": "a", "VLLM_LOGGING_LEVEL": "INFO"}
    assert find_recognized(env, entries) == {
        "MAX_MODEL_LEN": "flag",
        "SWAP_SPACE": "removed",
        "VLLM_LOGGING_LEVEL": "vllm",
    }
