"""Variables that hold a list."""

import pytest

from forebay_protocol.env_lists import SERVED_NAME_OVERRIDE, LoraModule, read_list_items, read_lora_modules

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a, b  c", ["a", "b", "c"]),
        ("'b c', d", ["b c", "d"]),
        (' ["a", {"b": 1}, 5, null]\n', ["a", '{"b": 1}', "5", "null"]),
        ('{"a": 1}', ['{"a": 1}']),
        ("", []),
    ],
)
def test_lists_have_three_forms(text: str, items: list[str]) -> None:
    assert read_list_items(text) == items


@pytest.mark.parametrize("text", ["[1", "['a']", DEEP, f"[{'9' * 5000}]", "a 'b"])
def test_a_text_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message of a quote is Python's
        read_list_items(text)


@pytest.mark.parametrize("text", ["My Model", "a,b", '["a"]', "'a", "org/model"])
def test_runpods_name_of_the_model_is_one_item(text: str) -> None:
    assert read_list_items(f" {text}\n", SERVED_NAME_OVERRIDE) == [text]


A, B = LoraModule("a", "org/a"), LoraModule("b", "/b")


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ('[{"name": "a", "path": "org/a"}, {"name": "b", "path": "/b"}]', [A, B]),
        ('{"name": "a", "path": "org/a", "base_model_name": "m"}', [A]),
        ("a=org/a b=/b", [A, B]),
        ('["a=org/a", {"name": "b", "path": "/b"}]', [A, B]),
        (r'["{\"name\": \"a\", \"path\": \"org/a\"}"]', [A]),
        ('[{"name": 5, "path": "/b"}, 7, null, ["a"], "no-path", ""]', [LoraModule("", "/b")]),
        ('{"name"', []),
        ('[{"name"', []),
        ('{"a":' * 50_000, []),
        (DEEP, []),
        (" ", []),
    ],
)
def test_adapters_have_two_forms(text: str, modules: list[LoraModule]) -> None:
    assert read_lora_modules(text) == modules
