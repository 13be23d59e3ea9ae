"""Give a CUDA build of torch the NVIDIA libraries it links against, as stubs, so that it loads without them.

PyPI has torch for Linux only as the CUDA build. On a CPU the NVIDIA libraries are loaded but none of their functions
is ever called, so each is replaced by a shared object that exports the symbols torch asks for; calling one stops the
process (`ud2`). libcudart and libcupti are real: torch calls them while it is imported.

Usage: python stub_cuda_libraries.py SITE_PACKAGES      (needs binutils; run once, after the wheels are installed)
"""

import subprocess
import sys
import tempfile
from pathlib import Path

# Library -> the prefixes of the C functions it exports. The longest matching prefix decides.
LIBRARIES = {
    "libcublas.so.13": ("cublas",),
    "libcublasLt.so.13": ("cublasLt",),
    "libcudnn.so.9": ("cudnn",),
    "libcufft.so.12": ("cufft",),
    "libcufile.so.0": ("cuFile",),
    "libcurand.so.10": ("curand",),
    "libcusolver.so.12": ("cusolver",),
    "libcusparse.so.12": ("cusparse",),
    "libcusparseLt.so.0": ("cusparseLt",),
    "libnccl.so.2": ("nccl", "pnccl"),
    "libnvrtc.so.13": ("nvrtc",),
    "libnvshmem_host.so.3": ("nvshmem",),
}
LIBRARY_OF_PREFIX = {prefix: library for library, prefixes in LIBRARIES.items() for prefix in prefixes}


def undefined_symbols(shared_object: Path) -> dict[str, str]:
    """The symbols that `shared_object` expects from others, each with the version it asks for ("" for none)."""
    command = ["nm", "-D", "--with-symbol-versions", "--undefined-only", str(shared_object)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = (line.split()[-1].partition("@") for line in lines)
    return {name: version.lstrip("@") for name, _, version in symbols}


def library_of(symbol: str) -> str | None:
    """The library of LIBRARIES that exports `symbol`."""
    prefix = max((p for p in LIBRARY_OF_PREFIX if symbol.startswith(p)), key=len, default=None)
    return LIBRARY_OF_PREFIX[prefix] if prefix else None


def write_stub(target: Path, symbols: dict[str, str]) -> None:
    """Build `target`, a shared object that exports `symbols` (name -> version)."""
    assembly = [".text"]
    for name in sorted(symbols):
        assembly += [f'.globl "{name}"', f'.type "{name}",@function', f'"{name}": ud2']
    assembly.append('.section .note.GNU-stack,"",@progbits')
    versions = sorted({version for version in symbols.values() if version})
    with tempfile.TemporaryDirectory() as scratch:
        source, made, version_script = (Path(scratch, name) for name in ("stub.s", "stub.o", "stub.map"))
        source.write_text("\n".join(assembly) + "\n")
        subprocess.run(["as", "-o", made, source], check=True)
        version_script.write_text("".join(f"{version} {{ global: *; }};\n" for version in versions))
        script = [f"--version-script={version_script}"] * bool(versions)
        subprocess.run(["ld", "-shared", "-soname", target.name, *script, "-o", target, made], check=True)


def main(site_packages: str) -> None:
    torch_lib = Path(site_packages, "torch", "lib")
    needed: dict[str, dict[str, str]] = {library: {} for library in LIBRARIES}
    for shared_object in sorted(torch_lib.glob("libtorch*.so")) + sorted(torch_lib.glob("lib*nvrtc.so")):
        for symbol, version in undefined_symbols(shared_object).items():
            if library := library_of(symbol):
                needed[library].setdefault(symbol, version)
    for library, symbols in needed.items():
        write_stub(torch_lib / library, symbols)
        print(f"{library}: {len(symbols)} symbols")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
