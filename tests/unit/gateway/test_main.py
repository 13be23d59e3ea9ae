"""The options of the gateway, and the values that it rejects."""

import pytest

from forebay_gateway.__main__ import build_parser


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--namespace-share=0", "'0' is not a number above 0 and up to 1"),
        ("--namespace-share=1.5", "'1.5' is not a number above 0 and up to 1"),
        ("--namespace-share=half", "'half' is not a number"),
        ("--kept-bytes=-1", "'-1' is not a whole number of 0 or more"),
        ("--kept-bytes=1.5", "'1.5' is not a whole number"),
        ("--hold-seconds=nan", "'nan' is not a number of 0 or more"),
        ("--hold-seconds=inf", "'inf' is not a number of 0 or more"),
    ],
)
def test_an_invalid_limit_is_reported(argument: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args([argument])
    assert said in capsys.readouterr().err


def test_limits_are_read() -> None:
    parsed = build_parser().parse_args(["--namespace-share=1", "--kept-bytes=5", "--hold-seconds=0.5"])
    assert (parsed.namespace_share, parsed.kept_bytes, parsed.hold_seconds) == (1.0, 5, 0.5)
