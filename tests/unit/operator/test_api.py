import json

import pytest
import yaml

from forebay_operator.api import _read_error, dump_yaml


@pytest.mark.parametrize(
    "text", ["plain", "größer", "🌀", "a\x7fb\x85c\u2028d\ufeffe\uffff", 'a "quoted" \\ud83c back\\slash']
)
def test_what_is_applied_is_the_same_read_as_yaml_and_as_json(text: str) -> None:
    content = {"spec": {"env": [{"name": "A", "value": text}]}}
    assert yaml.safe_load(dump_yaml(content)) == content
    assert json.loads(dump_yaml(content)) == content


def test_several_causes_are_told_in_one_order() -> None:
    causes = [{"reason": "FieldValueInvalid", "message": f"Invalid value: {name}", "field": name} for name in "ba"]

    def refuse(order: int) -> str:
        told = ", ".join(f"{cause['field']}: {cause['message']}" for cause in causes[::order])
        answer = {"message": f'HTTPRoute "x" is invalid: [{told}]', "details": {"causes": causes[::order]}}
        return _read_error(422, json.dumps(answer).encode()).message

    assert refuse(1) == refuse(-1) == 'HTTPRoute "x" is invalid: [a: Invalid value: a, b: Invalid value: b]'
