"""Measure Forebay on a machine with an NVIDIA GPU and a CUDA build of vLLM: no cluster, no network. See docs/gpu.md.

This module needs the standard library only. It picks the Python that has vLLM and runs tests.gpu.measure in it.
"""

import argparse
import os
import sys
from pathlib import Path

from cluster.pins import ROOT
from tests.gpu import interpreter, table
from tests.gpu.wheels import BrokenWheel

PARTS = {
    "start": "seconds to the first token by step, with plain `vllm serve` beside it",
    "overhead": "1, 8, 64 and 256 streams against plain `vllm serve`",
    "sleep": "sleep levels 1 and 2: seconds to sleep and to wake, memory given back",
    "fit": "estimated against real memory, for three shapes of 1B to 32B with dummy weights",
    "drain": "liveness under load, a stopped engine, SIGTERM under load",
}

DESCRIPTION = """\
Measure Forebay with vLLM and a GPU. Parts:

{parts}

Each part takes at most four minutes. It writes OUT/PART.json after each measurement, so a part that is cut keeps its
results. Models have random weights; those of `start` (1B) and `sleep` (3B) are written to disk.

  make gpu                                          every part
  make gpu PART=sleep                               one part
  make gpu WHEELS=~/wheels                          first install vLLM from these files, without network
  python3 -m tests.gpu --table gpu-results          print the results as Markdown
  python3 -m tests.gpu --device cpu --out /tmp/try  see on a CPU that the program works (tiny models)"""


def main() -> None:
    parser = argument_parser()
    arguments = parser.parse_args()
    if arguments.table:
        print(table.markdown(arguments.table))
        return
    unknown = sorted(set(arguments.parts) - PARTS.keys())
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; parts are {', '.join(PARTS)}")
    try:
        python = interpreter.with_vllm(arguments.wheels)
        environment = os.environ | {"PYTHONPATH": str(interpreter.install_server(python))}
    except (interpreter.NoInterpreter, BrokenWheel) as error:
        sys.exit(f"tests.gpu: {error}")
    options = ["--device", arguments.device, "--out", str(arguments.out.resolve()), "--limit", str(arguments.limit)]
    if tokenizer := arguments.tokenizer or found_tokenizer(arguments.wheels):
        options += ["--tokenizer", str(tokenizer.resolve())]
    os.chdir(ROOT)
    os.execve(python, [str(python), "-m", "tests.gpu.measure", *options, *(arguments.parts or PARTS)], environment)


def argument_parser() -> argparse.ArgumentParser:
    parts = "\n".join(f"  {name:9} {meaning}" for name, meaning in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu",
        description=DESCRIPTION.format(parts=parts),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure (default: everything)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(os.environ.get("OUT") or "gpu-results"),
        help="folder of the results (default: $OUT, else gpu-results)",
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install offline; `python3 -m tests.gpu.pack`")
    parser.add_argument(
        "--tokenizer", type=Path, help="folder of a tokenizer (default: WHEELS/tokenizer, else one of bytes)"
    )
    parser.add_argument("--limit", type=float, default=225, help="seconds for each part (default: %(default)s)")
    parser.add_argument("--table", type=Path, metavar="DIR", help="measure nothing; print the results in DIR")
    return parser


def found_tokenizer(wheels: Path | None) -> Path | None:
    """The folder `tokenizer` among the wheels; None without one."""
    found = sorted(wheels.rglob("tokenizer/tokenizer.json")) if wheels else []
    return found[0].parent if found else None


if __name__ == "__main__":
    main()
