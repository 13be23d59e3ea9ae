"""Measure the operator at some sizes and print the tables: `python -m bench.scale --endpoints 100,1000,5000`."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench.scale.plane import QPS, start_plane
from bench.scale.report import report
from bench.scale.rounds import measure
from forebay_operator.controller.workers import WORKERS


def main() -> int:
    """Measure each size on its own control plane."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument(
        "--endpoints", default="100,1000", help="comma-separated numbers of endpoints (default: %(default)s)"
    )
    parser.add_argument("--idle", type=float, default=60, help="idle seconds to measure (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"\nControllers and scheduler: {' '.join(QPS)}; {WORKERS} endpoints at once.\n", flush=True)
    for size in map(int, arguments.endpoints.split(",")):
        with tempfile.TemporaryDirectory() as name, start_plane(Path(name), pods=3 * size) as plane:
            figures = asyncio.run(measure(plane, Path(name), size, arguments.idle))
        print(report(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
