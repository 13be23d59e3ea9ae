"""Record what Claude Code and Codex send: `python -m tests.clients.record FOLDER`; README.md has the details."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from tests.clients.recorder import recording
from tests.clients.recordings import RECORDED
from tests.clients.scenarios import SCENARIOS, Scenario
from tests.clients.trimming import trim_request

MODEL = "forebay"
CLIENT_RUN_TIMEOUT = 60
"""The time limit of one run of a client."""

CODEX_CONFIG = """model = "{model}"
model_provider = "forebay"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.forebay]
name = "Forebay"
base_url = "{url}/v1"
env_key = "FOREBAY_KEY"
wire_api = "responses"
"""

QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
    "NO_PROXY": "*",
}
"""Nothing but the requests to the model, and those to loopback only."""


def record(scenario: Scenario, folder: Path, home: Path) -> dict[str, Any]:
    """The requests of one run of a client, and the client."""
    project = home / "project"
    project.mkdir()
    (project / "notes.txt").write_text("The dam stood.\n")
    (project / "image.png").write_bytes(red_square())
    program = str(folder / "node_modules/.bin" / scenario.client)
    answers = json.loads(json.dumps(scenario.answers).replace("{folder}", str(project)))
    with recording(answers) as server:
        env = {"PATH": os.environ["PATH"], "HOME": str(home), **QUIET, **scenario.variables}
        version = run([program, "--version"], project, env).splitlines()[-1]
        if scenario.client == "claude":
            env |= {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_AUTH_TOKEN": "KEY"}
            run([program, "-p", scenario.prompt, "--model", MODEL, *scenario.arguments], project, env)
        else:
            (home / ".codex").mkdir(exist_ok=True)
            (home / ".codex/config.toml").write_text(CODEX_CONFIG.format(model=MODEL, url=server.url))
            command = [program, "exec", "--skip-git-repo-check", *scenario.arguments, scenario.prompt]
            run(command, project, {**env, "FOREBAY_KEY": "KEY"})
        places = {
            str(project): "/home/someone/project",
            str(home): "/home/someone",
            server.url: "http://127.0.0.1:8000",
        }
        sent = [trim_request(each, places) for each in server.requests]
    return {"client": version, "requests": choose(sent, scenario)}


def choose(sent: list[dict[str, Any]], scenario: Scenario) -> list[dict[str, Any]]:
    """The requests to store."""
    if scenario.keep is None:
        return sent
    if isinstance(scenario.keep, str):
        return [max(sent, key=lambda each: len(json.dumps(each)))]
    return [sent[place] for place in scenario.keep]


def run(command: list[str], project: Path, env: dict[str, str]) -> str:
    """The output of a client. Raises CalledProcessError if it fails."""
    return subprocess.run(
        command,
        cwd=project,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=CLIENT_RUN_TIMEOUT,
    ).stdout.strip()


def red_square() -> bytes:
    """A PNG of 8 x 8 points."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xff\0\0" * 8) * 8
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main(folder: Path, names: list[str]) -> None:
    for scenario in SCENARIOS:
        if names and scenario.name not in names:
            continue
        with tempfile.TemporaryDirectory() as home:
            found = record(scenario, folder.resolve(), Path(home))
        text = json.dumps(found, ensure_ascii=False, indent=1)
        (RECORDED / f"{scenario.name}.json").write_text(text + "\n", "utf-8")
        print(f"{scenario.name}: {len(found['requests'])} requests of {found['client']}, {len(text) >> 10} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
