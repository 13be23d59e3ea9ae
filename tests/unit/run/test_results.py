"""The summary of a test run."""

from pathlib import Path

from tests.run.results import Failure, Result, draw_table, read_junit

JUNIT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="test_passes"/>
<testcase classname="tests.unit.test_a" name="test_is_skipped"><skipped message="not here"/></testcase>
<testcase classname="tests.unit.test_a" name="test_fails">
<failure message="AssertionError: 1 is not 2&#10;more">x</failure></testcase>
<testcase classname="tests.unit.test_a" name="test_errs"><error message="">x</error></testcase>
</testsuite></testsuites>"""


def test_tests_are_counted_and_failures_show_their_first_line(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text(JUNIT)
    passed, skipped, failures = read_junit(path)
    assert (passed, skipped) == (1, 1)
    assert failures == (
        Failure("tests.unit.test_a::test_fails", "AssertionError: 1 is not 2"),
        Failure("tests.unit.test_a::test_errs", "no reason is given"),
    )


def test_a_stage_without_result_files_has_no_results(tmp_path: Path) -> None:
    assert read_junit(tmp_path / "missing.xml") == (0, 0, ())


def test_the_table_has_stages_container_usage_and_totals() -> None:
    results = [Result("unit", 65, 90, passed=7), Result("e2e", 120, 10, passed=1, failures=(Failure("a", "b"),))]
    lines = draw_table(results, wall=130, cpu=160, cores=2).splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "unit", "e2e", "containers", "all,"]
    assert lines[1].split() == ["unit", "1m05s", "1m30s", "7", "0", "0"]
    assert lines[3].split() == ["containers", "and", "others", "1m00s"]
    assert lines[4].split()[-5:] == ["2m10s", "2m40s", "8", "1", "0"]
    assert "62 % of 2 cores busy" in lines[4]
