"""The list of tests of the OpenAI client's suite that cannot apply."""

import pytest

from tests.conformance.suites import CANNOT_APPLY, exemptions

NODE = "tests/api_resources/test_models.py::TestAsyncModels::test_method_delete[loose]"


def test_an_exemption_covers_one_test_or_one_of_its_variants() -> None:
    every, one = exemptions(
        "test_models.py::test_method_delete | why\ntest_models.py::test_method_delete[strict] | why"
    )
    assert every.covers(NODE)
    assert not one.covers(NODE)
    assert not every.covers(NODE.replace("delete", "list"))


def test_an_exemption_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="no reason"):
        exemptions("test_models.py::test_method_delete")


def test_the_list_in_the_repository_is_well_formed() -> None:
    assert len(exemptions(CANNOT_APPLY.read_text("utf-8"))) > 20
