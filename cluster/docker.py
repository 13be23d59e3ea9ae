"""The docker engine: used if one answers, else installed and started here; and the commands that it gets."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from cluster import apt, pins, runtime
from cluster.steps import Step, StepFailed, last_lines, output, say, step, wait_until

INOTIFY = {"max_user_instances": 1024, "max_user_watches": 1048576}
"""The least that kubelet, containerd and systemd in a node need (kind's "known issues": too many open files)."""

PULL_START_TIMEOUT = 15.0
"""Seconds until a registry must have started to answer a pull."""


def ensure() -> bool:
    """Have an engine that answers. Returns whether this call had to start the engine. If so, nothing runs in it yet."""
    if not trouble():
        return False
    if os.environ.get("DOCKER_HOST"):
        raise StepFailed(trouble(), "start the engine that DOCKER_HOST names, or unset DOCKER_HOST")
    if not shutil.which("dockerd") and (os.geteuid() != 0 or not shutil.which("apt-get")):
        raise StepFailed(trouble(), "start Docker, or install it: https://docs.docker.com/engine/install")
    apt.need({"docker": ["docker.io"], "dockerd": ["docker.io"], "iptables": ["iptables"]}, "a docker engine")
    if not trouble():
        return False
    if os.geteuid() != 0:
        raise StepFailed(trouble(), "start the engine (sudo systemctl start docker), or run this as root")
    start()
    return True


def trouble() -> str:
    """Why no engine answers; empty when one does."""
    try:
        asked = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "the program docker is not installed"
    except subprocess.TimeoutExpired:
        return "the docker engine does not answer"
    return "" if asked.returncode == 0 else asked.stderr.strip().splitlines()[-1]


def state() -> Path:
    """The folder with the process id and the log of the engine that this package started."""
    return pins.cache() / "engine"


def running(pid_file: Path, program: str) -> int | None:
    """The process that a pid file names, if it still runs that program: after a reboot the number may be another's."""
    try:
        pid = int(pid_file.read_text())
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return pid if name == program and rest.split()[0] not in "ZX" else None


def start() -> None:
    """Start the engine in the background and wait until it answers."""
    with step("starting the docker engine", "read the log; may this machine run containers?") as starting:
        raise_limits()
        state().mkdir(parents=True, exist_ok=True)
        starting.log = state() / "dockerd.log"
        pid_file = state() / "dockerd.pid"
        if running(pid_file, "dockerd"):
            say("    one is running already, and is coming up or going down")
            wait_until(lambda: not (running(pid_file, "dockerd") and trouble()), "its first answer or its exit", 60)
            if not trouble():
                return
        for left, program in ((pid_file, "dockerd"), (Path("/run/docker/containerd/containerd.pid"), "containerd")):
            if not running(left, program):
                left.unlink(missing_ok=True)
        with starting.log.open("wb") as log:
            engine = subprocess.Popen(
                ["dockerd", "--pidfile", pid_file, *runtime_options()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: engine.poll() is not None or not trouble(), "the engine's first answer", 60)
        if engine.poll() is not None:
            raise StepFailed(f"dockerd ended with {engine.returncode}:\n{last_lines(starting.log, 5)}")


def runtime_options() -> list[str]:
    """The options that let dockerd run privileged containers if this machine's bounding set lacks a capability."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    missing = runtime.missing(Path("/proc/self/status").read_text(), last)
    if not missing:
        return []
    say(f"    this machine lacks {', '.join(sorted(missing))}: containers are started without")
    wrapper = state() / "runc-bounded"
    wrapper.write_text(f"#!{os.path.realpath(sys.executable)} -IS\n{Path(runtime.__file__).read_text()}")
    wrapper.chmod(0o755)
    return ["--add-runtime", f"bounded={wrapper}", "--default-runtime", "bounded"]


def raise_limits() -> None:
    """Raise the inotify limits that are below what a node needs."""
    for name, least in INOTIFY.items():
        path = Path("/proc/sys/fs/inotify", name)
        if int(path.read_text()) < least:
            say(f"    raising fs.inotify.{name} to {least}")
            path.write_text(str(least))


def stop() -> None:
    """Stop the engine if this package started it and no container runs in it."""
    pid = running(state() / "dockerd.pid", "dockerd")
    if pid is None:
        return
    if output(["docker", "ps", "--quiet"]) != "":
        say("    the docker engine stays: other containers run in it")
        return
    with step("stopping the docker engine"):
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], 60)[0]:
            raise StepFailed(f"dockerd (process {pid}) did not end within 60 s of SIGTERM", f"kill {pid}")
        os.close(process)


def has(reference: str) -> bool:
    """Whether the engine has an image of that name."""
    return output(["docker", "image", "inspect", "--format", "{{.Id}}", reference]) is not None


Layers = tuple[str, ...]
"""The digests of an image's layers, the lowest first."""


def size(references: Iterable[str]) -> int:
    """The bytes of the layers of images. A layer that several images have is counted once."""
    every = (output(["docker", "image", "ls", "--quiet", "--no-trunc"]) or "").split()
    return union_size(inspect_layers(references), inspect_layers(every))


def inspect_layers(names: Iterable[str]) -> dict[Layers, int]:
    """The layers of images, and the bytes of all layers of each image."""
    form = '{{.Size}} {{join .RootFS.Layers " "}}'
    printed = output(["docker", "image", "inspect", "--format", form, *sorted(set(names))]) or ""
    return {tuple(layers): int(whole) for whole, *layers in map(str.split, printed.splitlines())}


def union_size(wanted: Iterable[Layers], known: Mapping[Layers, int]) -> int:
    """The bytes of the layers of the wanted images, by the sizes of all known ones.

    Layers that two images share are counted once if a known image has only these layers, such as a base that was built
    here.
    """
    parts = [layers for layers in known if any(each[: len(layers)] == layers for each in wanted)]

    def base_of(layers: Layers) -> int:
        lower = (known[each] for each in parts if len(each) < len(layers) and layers[: len(each)] == each)
        return max(lower, default=0)

    return sum(known[layers] - base_of(layers) for layers in parts)


class Export:
    """Images exported from the engine, as a stream; layers that they share are in it once.

    The engine gathers them before it sends the first byte, which takes almost a minute for some GB.
    """

    def __init__(self, references: Iterable[str]) -> None:
        self.references = frozenset(references)
        self._log = state() / "export.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            command = ["docker", "save", *sorted(self.references)]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)

    def read(self) -> bytes:
        """The next piece; empty at the end. Raises StepFailed with the engine's message if the stream was cut."""
        assert self._process.stdout
        piece = self._process.stdout.read(1 << 20)
        if not piece and self._process.wait():
            raise StepFailed(last_lines(self._log, 5))
        return piece

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        """Abort it if it still runs. Idempotent."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


def volume_folder(volume: str) -> str:
    """The folder of a volume, on the machine of the docker engine. Raises StepFailed if there is no such volume."""
    folder = output(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume])
    if not folder:
        raise StepFailed(f"the docker volume {volume} is not there", "run again")
    return folder


def tag(reference: str, name: str) -> None:
    """Give an image of the engine another name."""
    subprocess.run(["docker", "tag", reference, name], check=True)


def pull(reference: str) -> bool:
    """Pull an image that the engine lacks. If no registry has the image, print the reason and return False.

    Raises StepFailed if a pull stops after it started.
    """
    if has(reference):
        return True
    log = state() / f"pull-{re.sub(r'[^a-z0-9.]+', '-', reference)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("wb") as words,
        subprocess.Popen(["docker", "pull", reference], stdout=subprocess.PIPE, stderr=words) as pulling,
    ):
        assert pulling.stdout
        if not (select.select([pulling.stdout], [], [], PULL_START_TIMEOUT)[0] and pulling.stdout.readline()):
            pulling.kill()
            why = last_lines(log, 1) or f"no registry answered within {PULL_START_TIMEOUT:g} s"
            say(f"    {reference} can't be pulled, so it is built here: {why}")
            return False
        with step(f"pulling {reference}", "run again; check that the disk is not full") as rest:
            rest.log = log
            shutil.copyfileobj(pulling.stdout, words)
            if pulling.wait():
                raise StepFailed(last_lines(log, 3))
    return True


def context(entries: Iterable[tuple[str, Path]], target: Path) -> None:
    """Write a build context as a tar file. `entries`: the name of each file in the context, and the file.

    The archive omits this machine's owners, times and umask.
    """
    with tarfile.open(target, "w") as tar:
        for name, path in entries:
            with path.open("rb") as content:
                entry = tar.gettarinfo(arcname=name, fileobj=content)
                entry.uid = entry.gid = entry.mtime = 0
                entry.uname = entry.gname = ""
                entry.mode = 0o755 if entry.mode & 0o100 else 0o644
                tar.addfile(entry, content)


def build(
    building: Step,
    reference: str,
    entries: Iterable[tuple[str, Path]],
    args: Mapping[str, str],
    *,
    target: str = "",
    dockerfile: str = "Dockerfile",
) -> None:
    """Build an image, or only up to the stage `target`, from exactly these files.

    It runs on the host's network, since that may be the only one that reaches a registry of packages.
    """
    with tempfile.TemporaryDirectory() as folder:
        tar = Path(folder, "context.tar")
        context(entries, tar)
        options = [f"--build-arg={name}={value}" for name, value in args.items()]
        if target:
            options += ["--target", target]
        with tar.open("rb") as stdin:
            building.run(
                ["docker", "build", "--network", "host", "--file", dockerfile, "--tag", reference, *options, "-"],
                stdin=stdin,
            )
