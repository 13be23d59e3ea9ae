"""Run the checks of the wire format that others wrote, llm-comply and openai-python's own suite, against a server.

    python -m tests.conformance http://127.0.0.1:8000/v1 --model MODEL [--key KEY] [--embedding] [--only comply|openai]

The server must know the names that the suite asks for (VLLM_EXTRA_ARGS="--served-model-name MODEL gpt-6-astra
gpt-3.5-turbo-instruct text-embedding-3-small") and, for the suite, run with FOREBAY_AUTH=None: its key has blanks.
With --embedding the model is one for embeddings, and only what such a model can do is run. Tests that cannot apply are
in cannot_apply.txt, with the reason. Ends with status 1 when a test that can apply fails.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements/conformance.txt"
CANNOT_APPLY = Path(__file__).parent / "cannot_apply.txt"
OPENAI = "3.57.0"
SECONDS = 1200

FORMATS = ("openai-chat", "open-responses", "anthropic")
OTHER_MODELS = ("image", "reasoning", "thinking")
"""Tests of llm-comply with one of these in their names ask for a model that sees or reasons."""

TEXT = ("chat", "test_completions.py", "test_models.py")
EMBEDDING = ("test_embeddings.py",)


@dataclass(frozen=True)
class Exemption:
    """A test of the suite that cannot apply; `variant` "" means all of them."""

    file: str
    test: str
    variant: str

    def covers(self, node: str) -> bool:
        """Whether pytest's `node` (FILE::CLASS::TEST[VARIANT]) is this test."""
        path, _, name = node.partition("::")
        test, _, variant = name.rpartition("::")[2].partition("[")
        return (
            path == f"tests/api_resources/{self.file}"
            and test == self.test
            and self.variant in ("", variant.rstrip("]"))
        )


def exemptions(text: str) -> list[Exemption]:
    """What cannot_apply.txt says. Raises ValueError for a line without a reason."""
    found = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        node, _, why = line.partition(" | ")
        if not why:
            raise ValueError(f"cannot_apply.txt: {line!r} has no reason")
        file, _, test = node.partition("::")
        test, _, variant = test.partition("[")
        found.append(Exemption(file, test, variant.rstrip("]")))
    return found


def environment() -> Path:
    """The programs' own virtual environment and the suite, made once for each lock. Returns its folder."""
    cache = Path(os.environ.get("FOREBAY_CACHE") or Path.home() / ".cache/forebay")
    folder = cache / "conformance" / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    python = folder / "venv/bin/python"
    if not (folder / "done").exists():
        uv = cache / "uv/bin/uv"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder / "venv"], check=True)
        install: list[str | Path] = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--require-hashes",
            "-r",
            REQUIREMENTS,
        ]
        subprocess.run(install, check=True)
        download: list[str | Path] = [
            python,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        source = ["--no-binary=openai", "--no-build-isolation", f"--dest={folder}", f"openai=={OPENAI}"]
        subprocess.run([*download, *source], check=True)
        with tarfile.open(folder / f"openai-{OPENAI}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        (folder / "done").touch()
    return folder


def comply(folder: Path, url: str, key: str, model: str) -> bool:
    """llm-comply's three formats; whether every test that a text model can pass did."""
    well = True
    for name in FORMATS:
        command: list[str | Path] = [
            folder / "venv/bin/llm-comply",
            "-u",
            url,
            "-k",
            key or "none",
            "-m",
            model,
            "--format",
            name,
        ]
        ran = subprocess.run(
            [*command, "--json", "--timeout", "120"], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        results = json.loads(ran.stdout)["results"]
        apply = [each for each in results if not any(word in each["name"].lower() for word in OTHER_MODELS)]
        failed = [each for each in apply if each["status"] == "failed"]
        print(f"llm-comply {name}: {len(apply) - len(failed)} of {len(apply)} that a text model can pass", flush=True)
        for each in failed:
            print(f"  {each['name']}: {'; '.join(each['errors'])[:500]}")
        well = well and not failed
    return well


def openai_suite(folder: Path, url: str, parts: tuple[str, ...]) -> bool:
    """openai-python's own tests; whether all passed but those that cannot apply."""
    suite = folder / f"openai-{OPENAI}"
    command: list[str | Path] = [
        folder / "venv/bin/python",
        "-m",
        "pytest",
        "-q",
        "--tb=line",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "-rA",
    ]
    ran = subprocess.run(
        [*command, *(f"tests/api_resources/{part}" for part in parts)],
        cwd=suite,
        env={**os.environ, "TEST_API_BASE_URL": url},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    known = exemptions(CANNOT_APPLY.read_text("utf-8"))
    counts: Counter[str] = Counter()
    for line in ran.stdout.splitlines():
        status, _, rest = line.partition(" ")
        node = rest.partition(" - ")[0]
        if status not in ("PASSED", "FAILED", "ERROR"):
            continue
        exempt = any(each.covers(node) for each in known)
        counts["passed" if status == "PASSED" else "cannot apply" if exempt else "failed"] += 1
        if status != "PASSED" and not exempt:
            print(f"  {line}")
    print(f"openai-python {OPENAI}: {dict(counts)}")
    if not counts["passed"]:
        print(ran.stdout[-2000:], ran.stderr[-2000:])
    return counts["passed"] > 0 and not counts["failed"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the API's base URL, with /v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--embedding", action="store_true")
    parser.add_argument("--only", choices=["comply", "openai"])
    arguments = parser.parse_args()
    folder = environment()
    well = True
    if arguments.only != "openai" and not arguments.embedding:
        well = comply(folder, arguments.url, arguments.key, arguments.model)
    if arguments.only != "comply":
        well = openai_suite(folder, arguments.url, EMBEDDING if arguments.embedding else TEXT) and well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
