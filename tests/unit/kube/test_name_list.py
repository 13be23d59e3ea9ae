import pytest

from forebay_kube.name_list import read_names


@pytest.mark.parametrize(
    ("text", "names"), [("", []), ("a", ["a"]), (" a ,b,, c", ["a", "b", "c"]), (" , ", []), ("a b", ["a b"])]
)
def test_names_are_separated_by_commas(text: str, names: list[str]) -> None:
    assert read_names(text) == names
