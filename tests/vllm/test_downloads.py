"""Downloads by the real huggingface_hub, from a stand-in for the hub with faults."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hub import Faults, Hub
from tests.vllm.server import REPOSITORY, Server, endpoint, environment, serving
from tests.vllm.weights import with_weights

SIZE = 3 << 20

FETCH = """
import json, sys
from pathlib import Path
from forebay_server.lifecycle import diagnosis, downloads
from forebay_server.lifecycle.state import ServerState
state = ServerState()
source = downloads.DownloadSource(sys.argv[1], None, "auto")
checked = []
try:
    downloads.download_model(source, Path(sys.argv[2]), state, lambda config, size: checked.append((config.name, size)))
except Exception as error:
    failure = diagnosis.explain(error, sys.argv[1])
    print(json.dumps({"reason": failure.reason, "message": failure.message, "exit": failure.exit_status}))
else:
    progress = state.download and state.download.progress()
    print(json.dumps({"reason": "", "checked": checked, "percent": progress and progress.percent, "step": state.step}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "README.md").write_text("not needed")
    for number in (1, 2):
        (folder / f"model-0000{number}-of-00002.safetensors").write_bytes(os.urandom(SIZE))
    return folder


class Fetcher:
    """Runs FETCH beside the test."""

    def __init__(self, python: str, tmp_path: Path) -> None:
        self.python = python
        self.tmp_path = tmp_path
        self.cache = tmp_path / "hub-cache"

    def start(self, hub: Hub | str, model: str = REPOSITORY, **more: str) -> subprocess.Popen[str]:
        address = hub if isinstance(hub, str) else endpoint(hub)
        env = environment(self.tmp_path, {"HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", **more})
        command = [self.python, "-c", FETCH, model, str(self.cache)]
        return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __call__(self, hub: Hub | str, model: str = REPOSITORY, **more: str) -> dict[str, object]:
        return result(self.start(hub, model, **more))

    def files(self) -> dict[str, bytes]:
        """The files that vLLM would find."""
        return {path.name: path.read_bytes() for path in self.cache.glob("models--*/snapshots/*/*") if path.exists()}

    def leftovers(self) -> list[Path]:
        unchecked = [*self.cache.glob("models--*/forebay-unchecked/*")]
        return [*self.cache.glob("models--*/blobs/*.incomplete"), *unchecked]


def result(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=120)
    assert out, err
    content: dict[str, object] = json.loads(out)
    return content


@pytest.fixture
def fetch(vllm_python: str, tmp_path: Path) -> Fetcher:
    return Fetcher(vllm_python, tmp_path)


def expected(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}


def test_only_the_files_that_vllm_needs_are_downloaded(fetch: Fetcher, folder: Path) -> None:
    with serving(folder) as hub:
        answer = fetch(hub)
        assert answer == {
            "reason": "",
            "checked": [["config.json", 2 * SIZE]],
            "percent": 100,
            "step": "Downloading",
        }
        assert fetch.files() == expected(folder)
        assert not fetch.leftovers()
        again = fetch(hub)
    assert (again["reason"], again["step"]) == ("", "Importing"), "no file was left to download"


def test_a_download_resumes_after_a_cut_connection(fetch: Fetcher, folder: Path) -> None:
    """huggingface_hub stores received data in pieces of 10 MiB."""
    (folder / "model-00002-of-00002.safetensors").write_bytes(os.urandom(24 << 20))
    faults = Faults(cut_after_bytes=11 << 20, cuts=2)
    with serving(folder, faults) as hub:
        assert fetch(hub)["reason"] == ""
    assert fetch.files() == expected(folder)
    assert [start for _, start in faults.ranges if start], "only the rest was requested"


def test_complete_files_survive_a_killed_pod(fetch: Fetcher, folder: Path) -> None:
    faults = Faults(bytes_per_second=1 << 20)
    (folder / "model-00001-of-00002.safetensors").write_bytes(os.urandom(1000))
    with serving(folder, faults) as hub:
        process = fetch.start(hub)
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size == 1000 for path in fetch.cache.glob("models--*/blobs/*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        begun = len(faults.ranges)
        faults.bytes_per_second = 0
        assert fetch(hub)["reason"] == ""
    assert [name for name, _ in faults.ranges[begun:]] == ["model-00002-of-00002.safetensors"]
    assert fetch.files() == expected(folder)
    assert not [*fetch.cache.glob("models--*/forebay-unchecked/*")], "the first pod's file was checked by the second"


def test_a_corrupt_file_is_detected_and_downloaded_again(fetch: Fetcher, folder: Path) -> None:
    with serving(folder, Faults(corrupt=1)) as hub:
        assert fetch(hub)["reason"] == ""
    assert fetch.files() == expected(folder)


def test_a_file_that_stays_corrupt_ends_the_start(fetch: Fetcher, folder: Path) -> None:
    with serving(folder, Faults(corrupt=99)) as hub:
        answer = fetch(hub)
    assert answer["reason"] == "CorruptDownload"
    assert [*fetch.files()] == ["config.json"], "the corrupt file is not in a place where vLLM would find it"


@pytest.mark.parametrize(
    ("model", "token", "status", "outcome"),
    [
        (REPOSITORY, "hf_secret", 0, ("GatedRepository", 78)),
        ("acme/missing", "", 0, ("RepositoryNotFound", 78)),
        (REPOSITORY, "", 500, ("HubFailed", 1)),
    ],
)
def test_a_refusal_of_the_hub_is_reported(
    request: pytest.FixtureRequest, model: str, token: str, status: int, outcome: tuple[str, int]
) -> None:
    folder, fetch = request.getfixturevalue("folder"), request.getfixturevalue("fetch")
    with serving(folder, Faults(status=status), token) as hub:
        answer = fetch(hub, model)
    assert (answer["reason"], answer["exit"]) == outcome


def test_a_token_gives_access_to_a_gated_repository_and_is_not_logged(fetch: Fetcher, folder: Path) -> None:
    with serving(folder, token="hf_secret") as hub:
        assert fetch(hub, HF_TOKEN="hf_secret")["reason"] == ""
        refused = fetch(hub, HF_TOKEN="hf_wrong_one")
    assert refused["reason"] == "GatedRepository"
    assert "hf_wrong_one" not in json.dumps(refused)


def test_without_the_hub_the_cache_is_used(fetch: Fetcher, folder: Path) -> None:
    with serving(folder) as hub:
        address = endpoint(hub)
        fetch(hub)
    assert fetch(address)["reason"] == ""
    assert fetch(address, "acme/other")["reason"] == "HubUnreachable"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    path = tmp_path / "hub-cache"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_is_too_small_is_reported_before_the_first_byte(
    fetch: Fetcher, folder: Path, small_disk: Path
) -> None:
    faults = Faults()
    with serving(folder, faults) as hub:
        answer = fetch(hub)
    assert (answer["reason"], answer["exit"], faults.ranges) == ("DiskFull", 78, [])
    assert "6.0 MiB are still missing, and 4.0 MiB are free" in str(answer["message"])


def test_a_disk_that_fills_up_during_the_download_is_reported(fetch: Fetcher, folder: Path, small_disk: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()
    with serving(folder, Faults(bytes_per_second=1 << 20)) as hub:
        process = fetch.start(hub)
        while not [*small_disk.glob("models--*/blobs/*.incomplete")]:
            assert process.poll() is None
            time.sleep(0.02)
        (small_disk / "other").write_bytes(bytes(2 << 20))
        answer = result(process)
    assert (answer["reason"], answer["exit"]) == ("DiskFull", 78)


def test_two_pods_share_a_volume(fetch: Fetcher, folder: Path) -> None:
    faults = Faults(bytes_per_second=2 << 20)
    with serving(folder, faults) as hub:
        both = [fetch.start(hub), fetch.start(hub)]
        assert [result(process)["reason"] for process in both] == ["", ""]
    assert fetch.files() == expected(folder)
    assert not fetch.leftovers()
    assert len(faults.ranges) == 2, "each file was downloaded once"


def test_a_start_reports_its_download_and_the_steps_after_it(
    vllm_python: str, tiny_model: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    """50 MB at 6 MiB a second: huggingface_hub writes pieces of 10 MiB."""
    rate = 6 << 20
    model = with_weights(vllm_python, tiny_model, tmp_path / "model", width=1 << 17)
    (weights,) = model.glob("*.safetensors")
    with serving(model, Faults(bytes_per_second=rate)) as hub:
        server = serve(MODEL_NAME=REPOSITORY, LOAD_FORMAT="auto", HF_ENDPOINT=endpoint(hub), HF_HUB_DISABLE_XET="1")
        reports: list[dict[str, Any]] = []
        metrics = ""
        while not reports or reports[-1]["step"] != "Ready":
            reports.append(json.loads(server.wait_for("/startup")))
            if reports[-1].get("percent", 0) > 50 and "download_rate" not in metrics:
                metrics = server.ops("/metrics")[1]
            time.sleep(0.2)
    coming = [report for report in reports if report["step"] == "Downloading"]
    percents = [report["percent"] for report in coming]
    assert percents == sorted(percents)
    assert len(set(percents)) > 3
    halfway = next(report for report in coming if report["percent"] > 50)
    assert halfway["totalBytes"] > weights.stat().st_size
    assert halfway["bytesPerSecond"] == pytest.approx(rate, rel=0.5)
    left = (halfway["totalBytes"] - halfway["bytes"]) / halfway["bytesPerSecond"]
    assert halfway["etaSeconds"] == pytest.approx(left, abs=1)
    names = ("size_bytes", "received_bytes", "rate_bytes_per_second", "left_seconds")
    for name in names:
        assert f"\nforebay_download_{name} " in metrics
    seconds = reports[-1]["seconds"]
    assert [*seconds] == ["Importing", "Downloading", "LoadingWeights", "WarmingUp"]
    assert seconds["Downloading"] == pytest.approx(weights.stat().st_size / rate, rel=0.5)
    _, metrics = server.ops("/metrics")
    assert f'forebay_startup_step_seconds{{step="Downloading"}} {seconds["Downloading"]:.1f}' in metrics
