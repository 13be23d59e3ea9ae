import json

import pytest
import yaml

from forebay_operator.api import dump_yaml


@pytest.mark.parametrize(
    "text", ["plain", "größer", "🌀", "a\x7fb\x85c\u2028d\ufeffe\uffff", 'a "quoted" \\ud83c back\\slash']
)
def test_what_is_applied_is_the_same_read_as_yaml_and_as_json(text: str) -> None:
    content = {"spec": {"env": [{"name": "A", "value": text}]}}
    assert yaml.safe_load(dump_yaml(content)) == content
    assert json.loads(dump_yaml(content)) == content
