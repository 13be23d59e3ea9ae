"""The output of check and flags."""

import json

from forebay_server.failure import Failure
from forebay_server.inspection import checked, listed, refused
from forebay_server.launch import Launch

PLAN = Launch(
    model="a/b",
    arguments=["a/b", "--chat-template", "x y"],
    variables={"VLLM_PLUGINS": "forebay"},
    ignored=("SWAP_SPACE is ignored.",),
    warnings=("MODLE is not known.",),
    notes=("Tool calls are read by hermes.",),
)


def test_check_prints_ignored_variables_and_then_a_shell_command() -> None:
    assert checked(PLAN, as_json=False).splitlines() == [
        "ignored: SWAP_SPACE is ignored.",
        "warning: MODLE is not known.",
        "note: Tool calls are read by hermes.",
        "VLLM_PLUGINS=forebay \\",
        "vllm serve a/b --chat-template 'x y'",
    ]


def test_check_can_print_json() -> None:
    content = json.loads(checked(PLAN, as_json=True))
    assert content.keys() == {"model", "arguments", "variables", "ignored", "warnings", "notes"}
    assert content["arguments"] == PLAN.arguments


def test_an_error_is_a_message_or_the_line_of_the_termination_log() -> None:
    failure = Failure("InvalidConfiguration", "X is wrong.", "Correct X.")
    assert refused(failure, as_json=False) == "error: X is wrong. Correct X."
    assert json.loads(refused(failure, as_json=True))["reason"] == "InvalidConfiguration"


def test_the_list_shows_the_values_of_each_variable() -> None:
    flag = {"sets": "--dtype", "expected": "one of auto, half", "default": "auto"}
    lines = listed(
        [
            {"name": "DTYPE", "status": "flag", **flag},
            {"name": "SWAP_SPACE", "status": "removed", "instead": "KV_OFFLOADING_SIZE"},
            {"name": "MAX_CONCURRENCY", "status": "forebay", "meaning": "jobs at once"},
        ],
        as_json=False,
    ).splitlines()
    assert [line.split(maxsplit=2) for line in lines] == [
        ["DTYPE", "flag", "--dtype (one of auto, half, default auto)"],
        ["SWAP_SPACE", "removed", "now KV_OFFLOADING_SIZE"],
        ["MAX_CONCURRENCY", "forebay", "jobs at once"],
    ]
