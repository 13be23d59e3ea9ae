"""Run the benchmarks in the images of this checkout and print their tables: `make bench`."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cluster.images import images, reference
from cluster.pins import ROOT

CANNED_TEXT = "The river came down from the hills, slow and brown, and below the last bend stood the dam. " * 20

PATHS = {"PYTHONPATH": "/src:/opt/canned"}
"""The paths of these programs and the canned executor in a container."""


def main() -> int:
    """Build what is missing, then measure; `--short` shows that all of it runs."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="few rounds: shows that the benchmark runs; the figures mean little"
    )
    short = parser.parse_args().short
    needed = ["server", "server-canned", "smollm2-135m-instruct"]
    subprocess.run([sys.executable, "-m", "cluster", "images", *needed], check=True, stdout=subprocess.DEVNULL)
    options = ["--rounds=1", "--clients=1,8", "--tokens=32"] if short else []
    starts = ["--rounds=1"] if short else []
    print("\nCanned executor, 10 ms a step:\n", flush=True)
    canned = {
        "MODEL_NAME": "/opt/canned/model",
        "FOREBAY_CANNED_TEXT": CANNED_TEXT,
        "FOREBAY_CANNED_STEP_SECONDS": "0.01",
    }
    run("bench.overhead", reference("server-canned"), canned, options)
    print("\nCanned executor, from exec to first token:\n", flush=True)
    run("bench.start", reference("server-canned"), canned, starts)
    print("\nSmolLM2 135M on the CPU:\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        export(images()["smollm2-135m-instruct"], Path(folder))
        real = {"MODEL_NAME": "/model"}
        few = [] if short else ["--rounds=5", "--clients=1,8", "--tokens=64"]
        run("bench.overhead", reference("server"), real, options + few, volume=f"{folder}:/model:ro")
        print("\nSmolLM2 135M on the CPU, from exec to first token:\n", flush=True)
        run("bench.start", reference("server"), real, starts, volume=f"{folder}:/model:ro")
    return 0


def run(program: str, image: str, env: Mapping[str, str], options: list[str], volume: str = "") -> None:
    """Run one of these programs in an image, on loopback, and show its output immediately."""
    variables = {"KV_CACHE_MEMORY_BYTES": "256M", "MAX_MODEL_LEN": "2048", "BASE_PATH": "/tmp/cache", **PATHS, **env}
    settings = [f"--env={name}={value}" for name, value in variables.items()]
    volumes = [f"--volume={ROOT / 'bench'}:/src/bench:ro", *([f"--volume={volume}"] if volume else [])]
    container = ["docker", "run", "--rm", "--entrypoint=python3", *settings, *volumes, image]
    subprocess.run([*container, "-m", program, *options], check=True)


def export(image: str, folder: Path) -> None:
    """Copy the files of an image into a folder that every user may read.

    This works for an image without a program that can run, too.
    """
    create = ["docker", "create", image, "none"]
    container = subprocess.run(create, check=True, capture_output=True, text=True).stdout.strip()
    try:
        subprocess.run(["docker", "cp", f"{container}:/.", str(folder)], check=True, stdout=subprocess.DEVNULL)
    finally:
        subprocess.run(["docker", "rm", container], check=True, stdout=subprocess.DEVNULL)
    folder.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
