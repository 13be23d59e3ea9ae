"""vLLM's flags by introspection."""

import argparse
import json

from forebay_server.flags import Flag, Kind, flags_of


def test_every_option_is_a_flag_with_its_kind_type_and_default() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tag", nargs="?")
    parser.add_argument("--max-model-len", "-l", type=int, default=5)
    parser.add_argument("--eager", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--names", nargs="+", default={"b", "a"})
    parser.add_argument("--middleware", action="append", default=[])
    parser.add_argument("--dtype", choices=["auto", "half"], default="auto")
    parser.add_argument("--overrides", type=json.loads, default={})
    parser.add_argument("--old", default=argparse.SUPPRESS)
    assert list(flags_of(parser).values()) == [
        Flag("MAX_MODEL_LEN", "--max-model-len", Kind.VALUE, "int", 5),
        Flag("EAGER", "--eager", Kind.BOOLEAN, "bool", False),
        Flag("QUIET", "--quiet", Kind.SWITCH, "bool", False),
        Flag("NAMES", "--names", Kind.LIST, "str", ["a", "b"]),
        Flag("MIDDLEWARE", "--middleware", Kind.REPEATED, "str", []),
        Flag("DTYPE", "--dtype", Kind.VALUE, "str", "auto", ("auto", "half")),
        Flag("OVERRIDES", "--overrides", Kind.VALUE, "json", {}),
        Flag("OLD", "--old", Kind.VALUE, "str", None),
    ]
