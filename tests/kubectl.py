"""kubectl for tests: objects in and out as dicts, and waiting for conditions."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.api_server import NotAnswered, find_resource, read

T = TypeVar("T")

Manifest = dict[str, Any]


class Refused(AssertionError):
    """kubectl failed; `str()` is its output."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with a kubeconfig and a namespace."""

    binary: Path
    kubeconfig: Path
    namespace: str = "default"

    def within(self, namespace: str) -> "Kubectl":
        """The same cluster, another namespace."""
        return Kubectl(self.binary, self.kubeconfig, namespace)

    def environment(self) -> Mapping[str, str]:
        """The environment of a program that talks to this cluster."""
        path = f"{self.binary.parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 330) -> str:
        """Standard output of a kubectl command.

        Raises:
            Refused: it ended with an error.
        """
        command = [str(self.binary), "--namespace", self.namespace, *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, env=self.environment(), check=False
        )
        if done.returncode:
            raise Refused(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def apply(self, manifest: Manifest, *options: str) -> Manifest:
        """Apply an object; returns it as the API server keeps it."""
        return dict(json.loads(self.run("apply", "-f", "-", "-o", "json", *options, stdin=json.dumps(manifest))))

    def patch(self, kind: str, name: str, patch: Manifest, *options: str) -> None:
        """A JSON merge patch."""
        self.run("patch", kind, name, "--type=merge", f"--patch={json.dumps(patch)}", *options)

    def get(self, kind: str, name: str) -> Manifest | None:
        """One object, or None.

        Raises:
            Refused: the API server did not answer, or knows no such kind.
        """
        if resource := find_resource(kind):
            return self._read(resource, name=name)
        text = self.run("get", kind, name, "--ignore-not-found", "-o", "json")
        return dict(json.loads(text)) if text else None

    def list(self, kind: str, selector: str = "") -> list[Manifest]:
        """All objects of a kind in the namespace, or those that a label selector picks.

        Raises:
            Refused: the API server did not answer, or knows no such kind.
        """
        if resource := find_resource(kind):
            found = self._read(resource, selector=selector) or {}
            kind = found["kind"].removesuffix("List")
            return [{"apiVersion": found["apiVersion"], "kind": kind, **each} for each in found["items"]]
        options = [f"--selector={selector}"] if selector else []
        return list(json.loads(self.run("get", kind, "-o", "json", *options))["items"])

    def _read(self, resource: str, **which: str) -> Manifest | None:
        try:
            return read(self.kubeconfig, resource, self.namespace, **which)
        except NotAnswered as error:
            raise Refused(str(error)) from error

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and wait until it no longer exists."""
        self.run("delete", kind, name, "--ignore-not-found", "--timeout=180s")


def wait_for(ask: Callable[[], T | None], what: str, timeout: float = 60, interval: float = 0.2) -> T:
    """Call until the result is neither None nor False, and return it.

    Raises:
        AssertionError: no such result within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(interval)


def condition(manifest: Manifest | None, kind: str) -> Manifest:
    """A condition of an object, or an empty dict."""
    conditions = ((manifest or {}).get("status") or {}).get("conditions") or []
    return next((dict(found) for found in conditions if found["type"] == kind), {})


def install_crd(kubectl: Kubectl, path: Path, name: str, *options: str) -> None:
    """Apply a CRD and wait until its API is served. (`kubectl wait` fails on one that has no conditions yet.)"""
    kubectl.run("apply", *options, "-f", str(path))
    wait_for(lambda: condition(kubectl.get("crd", name), "Established").get("status") == "True", f"{name} is served")
