"""Which name was probably meant."""

import pytest

from forebay_protocol.spelling import edit_distance, find_nearest, suggest


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [
        ("A", "A", 0),
        ("AB", "BA", 1),
        ("ABC", "AC", 1),
        ("ABC", "ABD", 1),
        ("ABC", "ABCD", 1),
        ("ABCD", "AXYD", 2),
        ("ABC", "", 3),
        ("AAAA", "BBBB", 3),
    ],
)
def test_edit_distance_stops_at_its_limit(left: str, right: str, distance: int) -> None:
    assert edit_distance(left, right, limit=2) == distance


@pytest.mark.parametrize(
    ("name", "known", "nearest"),
    [
        ("temprature", ["top_p", "temperature"], "temperature"),
        ("SEEM", ["SEED"], "SEED"),
        ("SHED", ["DTYPE", "SEEDS"], ""),
        ("FLAGGA", ["FLAGGC", "FLAGGB"], "FLAGGB"),
        ("7", ["8", "16"], ""),
        ("", ["SEED"], ""),
        ("X" * 100_000, ["SEED"], ""),
        ("max_model_len", ["MAX_MODEL_LEN", "MAX_MODEL_LEM"], "MAX_MODEL_LEN"),
        (" Max-Model-Len", ["MAX_MODEL_LEN"], "MAX_MODEL_LEN"),
        ("topp", ["TOP_P", "TOP_K"], ""),
    ],
)
def test_short_names_are_compared_strictly(name: str, known: list[str], nearest: str) -> None:
    assert find_nearest(name, known) == nearest


def test_a_suggestion_can_be_appended_to_a_message() -> None:
    assert suggest("SEEM", ["SEED"]) == " Did you mean SEED?"
    assert suggest("SEEM", []) == ""
